"""The search for the bits of each layer, and its proof, on real digits."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.datasets.base import Images, Split
from pipelines.datasets.digits import Digits
from pipelines.litert.exported_model import ExportedModel
from pipelines.quantization.answers import Judge, logits, snr_db
from pipelines.quantization.calibration import calibrated, chosen, ranges, with_ranges
from pipelines.quantization.integers import quantized
from pipelines.quantization.search import Plan, Search, halves, images_for, provable
from pipelines.quantization.sensitivity import model_explorer, of_8_bits, table, worst
from pipelines.results import statistics
from pipelines.techniques.base import Candidate
from tests.conftest import exported, small_data


@pytest.fixture(scope="module")
def digits() -> Split:
    """1,078 digits, none of which trained the network."""
    return Digits(limit_train=None, limit_test=None, validation_fraction=0.75).load().validation


def search(flatbuffer: bytes, **settings: Any) -> Search:
    ranges = calibrated(flatbuffer, chosen(small_data()[0].train, 50))
    given: dict[str, Any] = {"max_drop": 0.02, "report": lambda _: None} | settings
    return Search(original=flatbuffer, calibrated_model=ranges, **given)


def uneven(trained: Candidate) -> Candidate:
    """The same function as before, with one channel of a layer a thousand times as large: 8 bits lose the others."""
    first, norm, second = (trained.model.get_layer(f"block{name}") for name in ("2_conv", "2_bn", "3_conv"))
    gamma, beta, *rest = norm.get_weights()
    gamma[0] *= 1000
    beta[0] *= 1000
    norm.set_weights([gamma, beta, *rest])
    (kernel,) = second.get_weights()
    kernel[:, :, 0] /= 1000
    second.set_weights([kernel])
    assert first is not None
    return trained


def test_search_saves_bytes_and_keeps_the_drop(exported_baseline: Path, digits: Split) -> None:
    work = search(exported_baseline.read_bytes())
    found = work.run(digits)
    counts = Counter(found.plan.bits(layer) for layer in found.layers)
    assert counts[4] >= 2 and not counts["float"]
    assert len(found.flatbuffer) < 0.8 * len(work.made(Plan(), pack=True))
    assert found.proven and found.proof.bound <= found.allowed
    _, unseen = halves(digits)
    assert found.proof.images == len(unseen)
    assert Judge(work.original, unseen).loss(work.made(found.plan, pack=False)) == found.proof


def test_layers_that_8_bits_hurt_stay_in_float(trained: Candidate, digits: Split, tmp_path: Path) -> None:
    flatbuffer = exported(uneven(trained), tmp_path / "model.tflite").read_bytes()
    work = search(flatbuffer, four_bits=False)
    _, unseen = halves(digits)
    assert Judge(flatbuffer, unseen).loss(work.made(Plan(), pack=False)).drop > 0.02
    found = work.run(digits)
    assert found.plan.floats and found.proven and found.proof.drop <= 0.02
    only_8 = replace(work, float_layers=False).run(digits)
    assert not only_8.plan.floats and not only_8.proven


def test_plans_go_from_careful_to_bold(exported_baseline: Path, digits: Split) -> None:
    work = search(exported_baseline.read_bytes(), max_drop=0.5)
    seen, unseen = halves(digits)
    plans, allowed, _ = work._ordered(Judge(work.original, seen), len(unseen))
    assert allowed == 0.5 and plans[0] == Plan()
    for careful, bold in pairwise(plans):
        assert careful.fours.keys() < bold.fours.keys()
    sizes = [len(work.made(plan, pack=True)) for plan in plans]
    assert sizes == sorted(sizes, reverse=True)


def test_the_first_plan_that_fails_ends_the_proof(
    exported_baseline: Path, digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later plans are not tested, though they would pass: else a bad one had many chances."""
    work = search(exported_baseline.read_bytes())
    good, bad = Plan(), Plan(fours={0: "minmax", 1: "minmax", 2: "minmax", 3: "octav", 4: "octav", 5: "octav"})
    fine = Plan(fours={5: "minmax"})
    _, unseen = halves(digits)
    judge = Judge(work.original, unseen)
    bounds = [judge.loss(work.made(plan, pack=False)).bound for plan in (good, bad, fine)]
    allowed = (bounds[0] + bounds[1]) / 2
    assert bounds[0] < allowed < bounds[1] and bounds[2] <= allowed
    monkeypatch.setattr(Search, "_ordered", lambda *_: ([good, bad, fine], allowed, 1))
    assert work.run(digits).plan == good
    monkeypatch.setattr(Search, "_ordered", lambda *_: ([bad, good], allowed, 1))
    first_fails = work.run(digits)
    assert first_fails.plan == bad and not first_fails.proven


def test_halves_are_even_in_every_class(digits: Split) -> None:
    first, second = halves(digits)
    assert len(first) + len(second) == len(digits)
    for one in range(10):
        assert abs(int((first.labels == one).sum()) - int((second.labels == one).sum())) <= 1
    both = {image.tobytes() for image in first.images} & {image.tobytes() for image in second.images}
    assert len(both) < 10  # equal digits exist


def test_few_images_prove_only_a_large_drop() -> None:
    assert provable(0.04, 600) == pytest.approx(0.0211, abs=1e-4)
    assert provable(0.0, 72) > 0.03
    needed = images_for(0.01, 0.04)
    assert provable(0.04, needed // 2) <= 0.01 < provable(0.04, needed // 2 - needed // 40)


def test_provable_is_what_a_lossless_model_proves() -> None:
    """Of models that change 4% of the answers and lose nothing, the share whose bound is within it."""
    random, images, changed = np.random.default_rng(0), 800, 0.04
    allowed, proven = provable(changed, images), 0
    for _ in range(2000):
        differing = random.binomial(images, changed)
        lost = random.binomial(differing, 0.5)
        proven += statistics.largest_drop(lost, differing - lost, images) <= allowed
    assert 0.75 < proven / 2000 < 0.86


def test_loss_counts_both_ways(exported_baseline: Path, digits: Split) -> None:
    work = search(exported_baseline.read_bytes())
    same = Judge(work.original, digits).loss(work.original)
    assert (same.drop, same.changed) == (0, 0) and 0 < same.bound < 0.01
    wrong = replace(digits, labels=(Judge(work.original, digits).expected.argmax(axis=1) + 1) % 10, known_digest=None)
    assert Judge(work.original, wrong).right.sum() == 0


def test_sensitivity_finds_the_layer_that_was_spoilt(trained: Candidate, digits: Split, tmp_path: Path) -> None:
    flatbuffer = exported(uneven(trained), tmp_path / "model.tflite").read_bytes()
    ranges = calibrated(flatbuffer, chosen(small_data()[0].train, 50))
    lines: list[str] = []
    found = of_8_bits(flatbuffer, ranges, digits, report=lines.append)
    columns = table(found)
    # Both read or write the uneven activation.
    assert {"block2_conv", "block3_conv"} <= set(columns["layer"][:2])
    assert columns["snr_db"][0] < 15 < columns["snr_db"][2] - 5
    assert columns["accuracy_change"][0] < -0.05
    assert columns["snr_db"] == sorted(columns["snr_db"])
    assert worst(found).startswith("8 bits hurt these layers most")
    assert f"{columns['layer'][0]} ({columns['snr_db'][0]:.0f} dB)" in worst(found)
    results = model_explorer(columns)["main"]["results"]
    assert results[columns["output"][0]] == {"value": columns["snr_db"][0]}
    assert len(results) == 6


def test_dark_images_are_answered_as_by_the_command(trained: Candidate, tmp_path: Path) -> None:
    """A file whose calibration images are dark has pixels of another scale, unless all files have 0 to 255."""
    data, _ = small_data()
    path = exported(trained, tmp_path / "float.tflite")
    dark = (data.train.images // 3).astype(np.uint8)
    int8 = quantized(calibrated(path.read_bytes(), dark))
    for number, flatbuffer in enumerate((int8, path.read_bytes(), narrow(path, dark))):
        model = tmp_path / f"{number}.tflite"
        model.write_bytes(flatbuffer)
        expected = ExportedModel(model).logits(data.test.images)
        assert np.array_equal(logits(flatbuffer, data.test.images), expected)
    assert (
        ExportedModel(tmp_path / "2.tflite")._form.codes is not None
        and ExportedModel(tmp_path / "0.tflite")._form.codes is None
    )


def narrow(path: Path, images: Images) -> bytes:
    """An int8 model that takes pixels in steps of a third."""
    places, lowest, highest = ranges(path.read_bytes(), images)
    return quantized(with_ranges(path.read_bytes(), places, lowest.min(axis=0), highest.max(axis=0)))


def test_a_harmless_layer_is_not_blamed_for_the_logits_bits(exported_baseline: Path, digits: Split) -> None:
    """Logits of 8 bits have 40 dB at best, whichever layer is quantized."""
    flatbuffer = exported_baseline.read_bytes()
    ranges = calibrated(flatbuffer, chosen(small_data()[0].train, 50))
    values = table(of_8_bits(flatbuffer, ranges, digits, report=lambda _: None))["snr_db"]
    assert values[-1] > 42 and values[-1] > values[0] + 3


def test_snr_of_known_noise() -> None:
    assert snr_db(np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)) == -np.inf
    expected = np.full((10, 10), 10.0, np.float32)
    assert snr_db(expected, expected + 1) == pytest.approx(20)
    assert snr_db(expected, expected) == np.inf
