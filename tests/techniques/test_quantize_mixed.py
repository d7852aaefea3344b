"""`quantize_mixed` through the command and the file that it leaves."""

import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.cells.compatibility import choices
from pipelines.cells.compose import CONF
from pipelines.datasets.base import ImageData, Split
from pipelines.execution.export import export, rewrite
from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.flatbuffer import add_note, notes, packed, parse
from pipelines.litert.kernels import kernels
from pipelines.techniques.base import Candidate, EffectError, FileTechnique, Rewritten
from pipelines.techniques.quantize_mixed import NOTE, QuantizeMixed
from tests.conftest import exported, small_data
from tests.places import Place

SETTINGS: dict[str, Any] = {
    "max_drop": 0.1,
    "bits": (4, 8, "float"),
    "objective": "size",
    "algorithm": "auto",
    "calibration_images": 20,
}
# All digits, of which 40% are held out: enough images for a proof.
DIGITS = (
    *("dataset=digits", "dataset.limit_train=null", "dataset.limit_test=null", "dataset.validation_fraction=0.4"),
    *("model=small_cnn", "training.epochs=6"),
)


def planned(exported_model: Path) -> list[int | str]:
    plan: list[int | str] = json.loads(notes(parse(exported_model.read_bytes()))[NOTE])
    return plan


@pytest.fixture(scope="module")
def chosen(trained_once: Candidate, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An exported model whose bits were searched for the least size."""
    path = tmp_path_factory.mktemp("chosen") / "model.tflite"
    export(replace(trained_once, rewriting=QuantizeMixed(**SETTINGS)), small_data()[0], path)
    return path.read_bytes()


@pytest.mark.parametrize("objective", ["size", "time"])
def test_kernels_are_stored_as_planned(objective: str, trained: Candidate, tmp_path: Path) -> None:
    technique, path = QuantizeMixed(**SETTINGS | {"objective": objective}), tmp_path / "model.tflite"
    data, _ = small_data()
    rewritten = export(replace(trained, rewriting=technique), data, path)
    technique.verify_file(path)
    plan = planned(path)
    assert plan.count(4) >= 1 and rewritten.metrics["quantize_mixed/layers_4_bits"] == plan.count(4)
    assert [str(one) for one in plan] == rewritten.tables["bits"]["bits"]
    stored = {4: "int4" if objective == "size" else "int8", 8: "int8", "float": "float32"}
    assert [one.stored for one in kernels(path)] == [stored[bits] for bits in plan]
    for bits, kernel in zip(plan, kernels(path), strict=True):
        assert bits != 4 or abs(kernel.values).max() <= 7
        assert bits != 8 or abs(kernel.values).max() > 7
    assert ExportedModel(path).labels == data.class_names


@pytest.mark.parametrize("number", [0, 3, 5])
def test_another_plan_than_the_files_is_refused(number: int, chosen: bytes, tmp_path: Path) -> None:
    technique, path = QuantizeMixed(**SETTINGS), tmp_path / "model.tflite"
    path.write_bytes(chosen)
    technique.verify_file(path)
    plan = planned(path)
    plan[number] = {4: 8, 8: 4, "float": 8}[plan[number]]
    model = parse(path.read_bytes())
    model.metadata = [note for note in model.metadata if note.name != NOTE.encode()]
    add_note(model, NOTE, json.dumps(plan).encode())
    path.write_bytes(packed(model))
    with pytest.raises(EffectError, match=rf"planned {plan[number]} bits for kernel {number + 1} of 6, .* has in int"):
        technique.verify_file(path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"bits": (4, "float")}, "technique.bits must be a list with 8"),
        ({"bits": 4}, "technique.bits must be a list with 8"),
        ({"bits": None}, "technique.bits must be a list with 8"),
        ({"bits": "float"}, "technique.bits must be a list with 8"),
        ({"max_drop": "1%"}, "where 0.01 is a point of accuracy, got '1%': set for example technique.max_drop=0.01"),
        ({"bits": (8, 2)}, "technique.bits must be a list with 8"),
        ({"max_drop": 0}, "technique.max_drop must be"),
        ({"max_drop": 2}, "technique.max_drop must be"),
        ({"objective": "speed"}, "technique.objective must be one of size, time"),
        ({"algorithm": "gptq"}, "technique.algorithm must be one of auto"),
        ({"calibration_images": 0}, "technique.calibration_images must be"),
    ],
)
def test_bad_settings(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantizeMixed(**SETTINGS | setting)


def test_a_file_that_stays_in_float_is_refused(trained: Candidate, tmp_path: Path) -> None:
    path = exported(trained, tmp_path / "model.tflite")
    model = parse(path.read_bytes())
    add_note(model, NOTE, json.dumps(["float"] * 6).encode())
    path.write_bytes(packed(model))
    with pytest.raises(EffectError, match="found no layer that may have 8 bits"):
        QuantizeMixed(**SETTINGS).verify_file(path)


def test_equal_choices_of_bits_are_equal_cells() -> None:
    assert QuantizeMixed(**SETTINGS | {"bits": [8, 4, 4]}) == QuantizeMixed(**SETTINGS | {"bits": (4, 8)})


def test_few_images_are_told_with_a_mend_that_works(trained: Candidate, tmp_path: Path) -> None:
    technique = QuantizeMixed(**SETTINGS | {"max_drop": 0.03})
    small, _ = small_data()
    rewritten = export(replace(trained, rewriting=technique), small, tmp_path / "model.tflite")
    first, *_ = rewritten.notes
    assert first.startswith("60 validation images are too few to prove a loss of at most 3 points: so ")
    assert rewritten.metrics["quantize_mixed/allowed_drop"] > 0.03 and not rewritten.metrics["quantize_mixed/proven"]
    assert ", as with dataset.validation_fraction=0." in first or "that there are: allow more by" in first


def test_own_file_technique_may_leave_the_file(trained: Candidate, tmp_path: Path) -> None:
    path = exported(trained, tmp_path / "float.tflite")
    data, _ = small_data()
    rewrite(Untouched(), path, data, tmp_path / "again.tflite", report=print)
    assert ExportedModel(tmp_path / "again.tflite").labels == data.class_names
    assert (tmp_path / "again.tflite").read_bytes() == path.read_bytes()


class Untouched(FileTechnique):
    NAME = "untouched"
    EFFECT = None
    parent = None

    def rewrite(self, flatbuffer: bytes, data: ImageData, *, report: Callable[[str], None] = print) -> Rewritten:
        assert not zipfile.is_zipfile(io.BytesIO(flatbuffer)), "the labels are not its business"
        return Rewritten(flatbuffer=flatbuffer)

    def verify_file(self, exported_model: Path) -> None: ...


@pytest.mark.slow
def test_command_proves_a_smaller_file(tmp_path: Path) -> None:
    place = Place(tmp_path)
    int8 = place.run(*DIGITS, "technique=quantize_int8", "technique.sensitivity=true", out="int8")
    assert "8 bits hurt these layers most" in int8.stdout, int8.stderr
    again = place.run(*DIGITS, "technique=quantize_int8", "technique.sensitivity=true", "score=edge", out="edge")
    assert "trained already" in again.stdout, again.stderr
    assert (tmp_path / "edge/small_cnn-digits-quantize_int8/model_explorer.json").is_file()
    limits = ("technique.max_drop=0.03", "technique.bits=[4,8]")
    mixed = place.run(*DIGITS, "technique=quantize_mixed", *limits, out="mixed")
    text = " ".join(mixed.stdout.split())
    assert "Of its 6 layers with weights," in text and "in 4 bits" in text, mixed.stderr
    assert "points of accuracy, proven on" in text and "validation images that the search did not see (95%)" in text
    folders = {run.info.run_name.rpartition("-")[2]: place.files(run) / "cell" for run in place.cells()}
    sizes = {name: (folder / "model.tflite").stat().st_size for name, folder in folders.items()}
    assert sizes["quantize_mixed"] < 0.9 * sizes["quantize_int8"] < 0.5 * sizes["baseline"]
    table = json.loads((folders["quantize_int8"] / "tables/sensitivity.json").read_text())
    explorer = json.loads((folders["quantize_int8"] / "model_explorer.json").read_text())
    assert list(explorer["main"]["results"]) == table["output"]
    assert np.isfinite(table["snr_db"]).all()
    assert (folders["quantize_int8"] / "figures/sensitivity.png").is_file()
    bits = json.loads((folders["quantize_mixed"] / "tables/bits.json").read_text())
    assert Counter(bits["bits"])["4"] == planned(folders["quantize_mixed"] / "model.tflite").count(4)


# The last layer of those that a test of deep networks needs: later blocks have no other kinds of kernels.
FIRST_BLOCKS = {"mobilenet_v2": "block_2_add", "efficientnet_b0": "block2b_add"}


@pytest.mark.slow
# Together they have every kind of kernel: of a convolution, of one for each channel, and of a dense layer.
@pytest.mark.parametrize("word", ["small_cnn", "mobilenet_v2", "efficientnet_b0"])
def test_every_kind_of_kernel_holds_its_plan(word: str, tmp_path: Path) -> None:
    """With random weights, whose normalizations follow the images, so that 8 bits keep the answers."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    small, _ = small_data()
    train, validation = (
        Split(images=split.images.repeat(4, axis=1).repeat(4, axis=2), labels=split.labels)
        for split in (small.train, small.validation)
    )
    data = replace(small, train=train, validation=validation)
    network = replace(choices(CONF, "model")[word].untrained(), input_size=32).build(data.image_shape, 10)
    if word in FIRST_BLOCKS:
        x = tf_keras.layers.GlobalAveragePooling2D(name="pool")(network.get_layer(FIRST_BLOCKS[word]).output)
        network = tf_keras.Model(network.input, tf_keras.layers.Dense(10, name="logits")(x))
    for layer in network.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0
    network(train.images[:64].astype(np.float32), training=True)
    # 60 images prove little.
    technique = QuantizeMixed(**SETTINGS | {"max_drop": 0.2, "algorithm": "minmax"})
    path = tmp_path / "model.tflite"
    rewritten = export(Candidate(model=network, rewriting=technique), data, path)
    technique.verify_file(path)
    assert planned(path).count(4) >= len(planned(path)) // 4
    assert rewritten.metrics["quantize_mixed/proven"]
    # Four of five bytes are gone, but for what is no kernel, of which few blocks have more.
    assert word in FIRST_BLOCKS or len(rewritten.flatbuffer) < 0.25 * 4 * sum(rewritten.tables["bits"]["weights"])


def test_settings_of_4_bits_count_with_them_alone() -> None:
    changed = {"objective": "time", "algorithm": "octav"}
    assert QuantizeMixed(**SETTINGS | {"bits": (8,)} | changed) == QuantizeMixed(**SETTINGS | {"bits": (8,)})
    assert QuantizeMixed(**SETTINGS | changed) != QuantizeMixed(**SETTINGS)
