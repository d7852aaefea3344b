"""Seeds taken together, their labels, intervals and marks."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pipelines.commands.compare import text
from pipelines.comparison.entries import entries_of
from pipelines.comparison.notes import notes
from pipelines.results.statistics import mean_share
from tests.comparison.recorded import compared, recorded


def test_seeds_become_one_entry_and_a_repeated_run_counts_once() -> None:
    cells = [recorded("cluster", accuracy=a, seed=s) for s, a in enumerate((0.7, 0.8, 0.9))]
    stale = recorded("cluster", accuracy=0.2, seed=2, started=-1)
    (entry,) = entries_of([*cells, stale])
    assert len(entry.runs) == 3
    expected = mean_share([0.7, 0.8, 0.9], 1000)
    assert (entry.accuracy.value, entry.accuracy.low, entry.accuracy.high) == pytest.approx((0.8, *expected))
    assert entry.score.value == pytest.approx(np.mean([cell.metrics["score/operational"] for cell in cells]))


def test_seeds_on_other_images_are_separate_entries() -> None:
    seeds = [
        recorded("cluster", seed=0, digest="1234567890", accuracy=0.99),
        recorded("cluster", seed=1, digest="abcdefghij", accuracy=0.15, images=50),
        recorded("cluster", seed=2, digest="abcdefghij", accuracy=0.2, images=50, training="other images"),
    ]
    comparison = compared(*seeds, recorded("baseline", digest="1234567890"))
    assert {entry.label: len(entry.runs) for entry in comparison.entries} == {
        "vgg16-cifar10-baseline": 1,
        "vgg16-cifar10-cluster test-images=12345678 training-images=t": 1,
        "vgg16-cifar10-cluster test-images=abcdefgh training-images=t": 1,
        "vgg16-cifar10-cluster test-images=abcdefgh training-images=other im": 1,
    }
    (found,) = [note for note in notes(comparison) if "different sets of images" in note]
    assert "2 different sets of images (50, 1,000 images)" in found
    assert "filter=\"dataset.digest = '1234567890'\"" in found


def test_label_omits_images_that_the_settings_determine() -> None:
    cells = [recorded("cluster", digest=n, params={"dataset.limit_test": n}) for n in ("100", "200")]
    assert {entry.label for entry in entries_of(cells)} == {
        "vgg16-cifar10-cluster dataset.limit_test=100",
        "vgg16-cifar10-cluster dataset.limit_test=200",
    }


def test_unrecorded_names_do_not_separate_seeds() -> None:
    cells = [
        recorded("cluster", seed=0),
        recorded("cluster", seed=1, params={"dataset.name": "cifar10", "model.name": "vgg16"}),
    ]
    (entry,) = entries_of(cells)
    assert len(entry.runs) == 2
    assert any("Two seeds give a single difference" in note for note in notes(compared(*cells)))


def test_differing_settings_are_in_the_label() -> None:
    cells = [recorded("cluster", params={"technique.clusters": n, "x": "same"}) for n in ("8", "16")]
    labels = {entry.label for entry in entries_of(cells)}
    assert labels == {"vgg16-cifar10-cluster technique.clusters=16", "vgg16-cifar10-cluster technique.clusters=8"}


def test_times_of_mixed_hardware_are_flagged_and_not_averaged() -> None:
    cells = [recorded("cluster", seed=0), recorded("cluster", seed=1, hardware="another CPU")]
    comparison = compared(*cells, recorded("baseline"))
    (entry,) = [entry for entry in comparison.entries if entry.technique == "cluster"]
    assert entry.mixed
    for estimate in (entry.test_ms, entry.train_s, entry.score, entry.gain):
        assert math.isnan(estimate.value)
    assert entry.compressed_bytes.value == 1e6
    assert comparison.winner is not None and comparison.winner.technique == "baseline"
    assert any("not averaged" in note for note in notes(comparison))
    assert any("2 machines" in note for note in notes(comparison))
    assert "nan" not in text(comparison)


def test_a_cell_that_learnt_nothing_is_named_and_not_the_fittest() -> None:
    nothing = recorded("quantize_int8", megabytes=0.1)
    nothing = replace(
        nothing,
        metrics=nothing.metrics | {"test/majority_share": 0.79, "test/majority_p_value": 0.2},
        majority="cat",
    )
    comparison = compared(nothing, recorded("baseline"))
    assert comparison.entries[0].technique == "quantize_int8"
    assert comparison.winner is not None and comparison.winner.technique == "baseline"
    sentence = "vgg16-cifar10-quantize_int8 is no better than always answering 'cat' (79.0% of the test images)."
    assert sentence in notes(comparison)
    assert "vgg16-cifar10-quantize_int8 (nothing learnt)" in text(comparison)
    assert notes(compared(nothing)) == ["No cell has learnt enough to be the fittest.", sentence]
    (both,) = entries_of([nothing, recorded("quantize_int8", seed=1)])
    assert both.uninformed.endswith("with 1 of 2 seeds") and not both.eligible
