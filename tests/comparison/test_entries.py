"""Seeds taken together, their labels, intervals and marks."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.commands.compare import text
from pipelines.comparison import article
from pipelines.comparison.entries import entries_of, litert_note, seeds_note
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


def test_the_last_run_of_an_entry_is_the_newest() -> None:
    cells = [recorded("cluster", seed=seed, started=started) for seed, started in ((0, 1), (1, 2), (2, 3), (0, 9))]
    (entry,) = entries_of(cells)
    assert [(run.seed, run.started) for run in entry.runs] == [("1", 2), ("2", 3), ("0", 9)]


def test_seeds_on_other_training_images_are_separate_entries() -> None:
    cells = [recorded("cluster", seed=n, training=images) for n, images in enumerate(("t", "other images"))]
    assert {entry.label: len(entry.runs) for entry in compared(*cells).entries} == {
        "vgg16-cifar10-cluster training-images=t": 1,
        "vgg16-cifar10-cluster training-images=other im": 1,
    }


def test_label_omits_images_that_the_settings_determine() -> None:
    cells = [recorded("cluster", training=n, params={"dataset.limit_train": n}) for n in ("100", "200")]
    assert {entry.label for entry in entries_of(cells)} == {
        "vgg16-cifar10-cluster dataset.limit_train=100",
        "vgg16-cifar10-cluster dataset.limit_train=200",
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


def test_cell_shows_a_setting_that_varies_elsewhere() -> None:
    cells = [recorded("baseline", params={"training.epochs": n}) for n in ("1", "3")]
    cells.append(recorded("prune", params={"training.epochs": "2", "technique.sparsity": "0.5"}))
    by_technique = {entry.technique: entry.settings for entry in entries_of(cells)}
    # Without it, the one of prune would read as the default.
    assert by_technique["prune"] == "training.epochs=2"


def test_other_settings_of_training_are_named() -> None:
    cells = [recorded("baseline", params={"training.epochs": n}) for n in ("2", "10")]
    (sentence,) = [note for note in notes(compared(*cells)) if "trained with" in note]
    assert sentence == (
        "The cells were trained with different settings (training.epochs 2, 10), and a shorter training counts as "
        "faster."
    )


@pytest.mark.parametrize("left_out", ["weight", "unknown"])
def test_shorter_training_is_no_reason_where_it_does_not_count(left_out: str) -> None:
    weight = {"score.train_time": "0.0"} if left_out == "weight" else {}
    seconds = None if left_out == "unknown" else 10.0
    cells = [recorded("baseline", params=weight | {"training.epochs": n}, train_s=seconds) for n in ("2", "10")]
    (sentence,) = [note for note in notes(compared(*cells)) if "trained with" in note]
    assert sentence == "The cells were trained with different settings (training.epochs 2, 10)."


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
    assert "quantize_int8 (nothing learnt)" in text(comparison)
    among = "has the highest score of the cells that keep their budgets and have learnt something, 70.6 dB."
    assert notes(comparison)[0] == f"vgg16-cifar10-baseline {among}"
    # The only one that keeps its budgets has learnt nothing.
    neither = compared(nothing, recorded("baseline", feasible=False))
    assert notes(neither)[0] == (
        "No cell that has learnt enough to be the fittest keeps the budgets of its score profile."
    )
    assert notes(compared(nothing))[0] == "No cell has learnt enough to be the fittest."
    assert notes(compared(nothing)) == ["No cell has learnt enough to be the fittest.", sentence]
    (both,) = entries_of([nothing, recorded("quantize_int8", seed=1)])
    assert both.uninformed.endswith("with 1 of 2 seeds") and not both.eligible


def test_labels_have_no_words_of_mlflow_run_nor_classes() -> None:
    own = {"overrides": "'training.epochs=2'", "technique": "cluster", "measurement.timeout_s": "60"}
    cells = [
        recorded("cluster", params=own | {"technique.sparsity": "0.30000000000000004", "technique._target_": "a.B"}),
        recorded("cluster", params={"technique.sparsity": "0.6123456789012345", "technique._target_": "a.C"}),
    ]
    (first, second) = sorted(entries_of(cells), key=lambda entry: entry.label)
    assert first.settings == "technique.sparsity=0.3" and second.settings == "technique.sparsity=0.612"
    assert first.label == f"{first.name} {first.settings}"
    # The same cell, once by `mlflow run`, is one entry.
    assert len(entries_of([recorded("cluster", params=own), recorded("cluster", started=1)])) == 1


def test_rounding_leaves_settings_apart() -> None:
    rates = ("0.1234567", "0.1234568", "0.2")
    labels = [entry.settings for entry in entries_of([recorded("cluster", params={"training.x": x}) for x in rates])]
    assert labels == [f"training.x={rate}" for rate in rates]


def test_places_do_not_tell_cells_apart() -> None:
    """Of two seeds, in two folders, of which a person renamed one, and with another number of fine-tuning epochs."""
    first = recorded("cluster", params={"dataset.data_dir": "/a", "training.fine_tuning_epochs": "None"})
    second = recorded("cluster", seed=1, params={"dataset.data_dir": "/b", "training.fine_tuning_epochs": "3"})
    (entry,) = entries_of([first, replace(second, name="my favourite")])
    assert entry.label == "vgg16-cifar10-cluster" and len(entry.runs) == 2
    # A donor's folder has no digest beside it.
    donors = [recorded("layer_transfer", params={"technique.source.dataset.path": place}) for place in ("/a", "/b")]
    assert len(entries_of(donors)) == 2
    unknown = [replace(one, digest="") for one in (first, replace(second, seed="0"))]
    assert len(entries_of(unknown)) == 2


def test_different_seeds_have_a_note() -> None:
    cells = [recorded("baseline", seed=seed) for seed in (0, 1, 2)] + [recorded("qat", seed=0)]
    assert seeds_note(entries_of(cells[:3])) is None
    assert seeds_note(entries_of([cells[0], cells[3]])) is None
    assert seeds_note(entries_of(cells)) == (
        "The cells have different seeds (0, 1, 2; 0), by which their means differ too: run those that are missing, for "
        "example of vgg16-cifar10-qat."
    )
    assert any(one.startswith("The cells have different seeds") for one in notes(compared(*cells)))


def test_seeds_of_changed_code_are_noted() -> None:
    seeds = [replace(recorded("prune", seed=n), code=code) for n, code in enumerate(("new", "old", "old"))]
    (sentence,) = [note for note in notes(compared(*seeds)) if note.startswith("Code or libraries changed")]
    assert "between the seeds of vgg16-cifar10-prune, so their means are of neither" in sentence
    assert not [note for note in notes(compared(*seeds[1:])) if note.startswith("Code")]


def test_a_renamed_run_keeps_its_settings() -> None:
    named, other = (recorded("qat", params={"technique.epochs": n}) for n in ("2", "9"))
    entries = entries_of([replace(named, name="keep this"), other])
    assert [(entry.label, entry.settings) for entry in entries] == [
        ("keep this technique.epochs=2", "technique.epochs=2"),
        ("vgg16-cifar10-qat technique.epochs=9", "technique.epochs=9"),
    ]


def test_runs_that_a_person_named_alike_have_labels_of_their_own() -> None:
    runs = [recorded(one, params={"technique._target_": one}) for one in ("qat", "prune")]
    labels = [entry.label for entry in entries_of([replace(run, name="best") for run in runs])]
    assert labels == ["best technique._target_=qat", "best technique._target_=prune"]


def test_teachers_from_two_files_are_two_cells() -> None:
    params = (
        {"technique.source.model.path": f"{one}/best.keras", "technique.source.model.file_sha256": one * 64}
        for one in "ab"
    )
    assert sorted(entry.settings for entry in entries_of([recorded("distill", params=one) for one in params])) == [
        "technique.source.model.file_sha256=aaaaaaaa", "technique.source.model.file_sha256=bbbbbbbb"
    ]  # fmt: skip


def test_own_technique_that_is_a_baseline_has_no_marks() -> None:
    """A class of one's own that inherits Baseline under another name is compared with nothing."""
    own = recorded("mixup")
    metrics = {name: value for name, value in own.metrics.items() if not name.startswith(("baseline/", "score/gain"))}
    comparison = compared(replace(own, baseline="", metrics=metrics), recorded("prune"))
    by_technique = {entry.technique: entry for entry in comparison.entries}
    assert by_technique["mixup"].improved is None and not by_technique["mixup"].gains
    assert article.table(comparison).count("vgg16") == 1 and "nan" not in text(comparison)


def test_donors_are_told_apart_by_their_names_alone() -> None:
    place = "technique.source.dataset.max_shift"
    donors = [
        replace(recorded("layer_transfer", params={place: shift} if shift else {}), source=source)
        for source, shift in (("vgg16-cifar10", ""), ("vgg16-cifar100", "4"), ("vgg16-cifar100", "0"))
    ]
    entries = entries_of([recorded("baseline"), *donors])
    assert [entry.settings for entry in entries] == ["", "", f"{place}=4", f"{place}=0"]
    assert entries[1].label == "vgg16-cifar10-layer_transfer source=vgg16-cifar10"
    assert len({entry.label for entry in entries}) == 4


def test_class_of_a_part_is_in_the_label_where_it_alone_tells() -> None:
    own = {"training._target_": "mine.Training", "training.epochs": "10"}
    cells = [
        recorded("cluster", params={"training._target_": "Training", "training.epochs": "10"}),
        recorded("cluster", params=own),
        recorded("cluster", params={"training._target_": "Training", "training.epochs": "20"}),
    ]
    assert {entry.label for entry in entries_of(cells)} == {
        "vgg16-cifar10-cluster training._target_=Training training.epochs=10",
        "vgg16-cifar10-cluster training._target_=mine.Training training.epochs=10",
        "vgg16-cifar10-cluster training._target_=Training training.epochs=20",
    }


def test_cells_of_a_former_training_of_their_baseline_are_named() -> None:
    trained_again = recorded("baseline", accuracy=0.84, started=2)
    cells = [recorded("baseline"), recorded("cluster", started=1)]
    assert not any("run again later" in note for note in notes(compared(*cells)))
    (found,) = [note for note in notes(compared(*cells, trained_again)) if "run again later" in note]
    assert found.startswith("The baseline of vgg16-cifar10-cluster was run again later and has another accuracy now")


def test_versions_of_litert_are_named() -> None:
    cells = [replace(recorded(name), litert=version) for name, version in (("baseline", "2.3.0"), ("qat", "2.2.0"))]
    note = litert_note(entries_of(cells))
    assert note is not None and "(2.2.0 and 2.3.0)" in note
    assert litert_note(entries_of([cells[0], replace(cells[1], litert="")])) is None
