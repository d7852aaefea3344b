import dataclasses
import json
from pathlib import Path

import pytest

from pipelines.results.cell_result import CellResult, Complexity, Majority, Terms, Timing, Verdict
from pipelines.results.folder import CellFiles, Finished
from pipelines.results.metrics import OF_SOME_CELLS, flatten, metrics_of
from pipelines.results.summary import brief, note, table
from tests.results.test_score import compared, measurement

COMPARISON = dataclasses.replace(
    compared(),
    baseline_accuracy=0.5,
    baseline_train_s=100.0,
    ratio_low=0.4,
    ratio_high=0.6,
    accuracy_p_value=0.2,
    gain=Terms(accuracy=1.0, size=2.0, test_time=3.0, train_time=0.0),
    train_ratio=1.0,
    train_ratio_low=1.0,
    train_ratio_high=1.0,
    test_time="better",
    train_time="tied",
)
RESULT = CellResult(
    model="vgg16",
    dataset="cifar10",
    technique="quantize_int8",
    seed=3,
    fingerprint="f" * 64,
    hardware={"processor": "a", "gpus": []},
    measurement=measurement(),
    timing=Timing(train_s=0.0, train_total_s=100.0, optimize_s=1.0, convert_s=2.0),
    complexity=Complexity(parameters=7, macs=8, sparsity=0.0),
    score=Terms(accuracy=50.0, size=-10.0, test_time=-5.0, train_time=-10.0),
    violations=("accuracy 0.55 is below min_accuracy 0.9",),
    comparison=COMPARISON,
    epochs=({"loss": 1.0},),
    metrics={"transfer/parameters_share": 0.5},
    majority=Majority(answer="cat", share=0.52, p_value=0.3),
)
UNKNOWN = dataclasses.replace(
    RESULT,
    timing=dataclasses.replace(RESULT.timing, train_total_s=None),
    score=dataclasses.replace(RESULT.score, train_time=0.0),
    comparison=dataclasses.replace(
        COMPARISON,
        baseline_train_s=None,
        train_ratio=None,
        train_ratio_low=None,
        train_ratio_high=None,
        train_time=None,
    ),
    epochs=(),
)
BASELINE = dataclasses.replace(RESULT, technique="baseline", comparison=None, violations=(), majority=None)


@pytest.mark.parametrize("result", [RESULT, BASELINE, UNKNOWN], ids=["compared", "baseline", "unknown"])
def test_a_record_survives_json(result: CellResult, tmp_path: Path) -> None:
    files = CellFiles(tmp_path)
    result.save(files.result)
    assert Finished.load(tmp_path).result == result


def test_an_unfinished_cell_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Finished.load(tmp_path)


def test_a_record_of_another_format_is_refused(tmp_path: Path) -> None:
    CellFiles(tmp_path).result.write_text(json.dumps({"comparison": None, "other": 1}))
    with pytest.raises(TypeError):
        Finished.load(tmp_path)


def test_table_has_the_baseline_in_a_column() -> None:
    text = table(RESULT)
    assert "vgg16-cifar10-quantize_int8, seed 3" in text
    for row in (
        ("accuracy", "55.0%", "50.0%", "+5.0 points", "+1.0 dB"),
        ("test time, median", "10.0 ms", "20.0 ms", "x 0.500", "+3.0 dB"),
        ("training time", "100 s", "100 s", "x 1.00", "+0.0 dB"),
        ("compressed size", "10,000 kB", "20,000 kB", "x 0.500", "+2.0 dB"),
        ("score", "25.0 dB", "19.0 dB", "+6.0 dB"),
    ):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{row[0]}  ")]
        assert all(cell in line for cell in row)
    lines = text.splitlines()
    assert lines[lines.index("-" * len(lines[1]), 4) + 1 :][:6] == [
        "transfer/parameters_share 0.5",
        "It has learnt nothing that these test images show: no better than always",
        "answering 'cat' (52.0% of the test images).",
        "2.00 times smaller, 2.00 times faster, accuracy tied (+5.0 points, p = 0.2).",
        "Test time x 0.500; 95% of repeats give x 0.400 to 0.600.",
        "Better in time and size (time is testing and training together, as the score",
    ]
    assert "Not feasible: accuracy 0.55 is below min_accuracy 0.9." in text


def test_note_has_a_balanced_accuracy_that_differs() -> None:
    unbalanced = dataclasses.replace(RESULT, measurement=dataclasses.replace(measurement(), balanced_accuracy=0.3))
    assert "Accuracy 55.0% on 100 test images (30.0% balanced over the classes), 10.0 ms" in note(unbalanced)
    assert "balanced" not in note(RESULT)


def test_table_and_note_report_that_nothing_was_learnt() -> None:
    for text in (table(RESULT), note(RESULT)):
        assert "no better than always answering 'cat' (52.0% of the test images)." in " ".join(text.split())
    for text in (table(BASELINE), note(BASELINE)):
        assert "always" not in text


def test_table_of_a_baseline_has_two_columns() -> None:
    text = table(BASELINE)
    assert "change" not in text and "score  " in text
    assert max(map(len, text.splitlines())) < 60


def test_note_has_score_and_gain() -> None:
    assert "**vgg16-cifar10-quantize_int8**: score **25.0 dB**, +6.0 dB against its baseline." in note(RESULT)
    assert "against" not in note(BASELINE)


def test_missing_metrics_are_absent() -> None:
    assert metrics_of(RESULT)["score/gain_db"] == 6.0
    assert metrics_of(RESULT)["baseline/dimensions_improved"] == 2
    assert not [name for name in metrics_of(BASELINE) if "gain" in name or name.startswith("baseline/")]


def test_metrics_of_some_cells_alone_are_known_as_such() -> None:
    few = dataclasses.replace(
        UNKNOWN, comparison=None, majority=None, measurement=dataclasses.replace(measurement(), p99_ms=None)
    )
    assert metrics_of(RESULT).keys() - metrics_of(few).keys() <= OF_SOME_CELLS
    assert not metrics_of(few).keys() & OF_SOME_CELLS


def test_unknown_training_time_in_table_and_note() -> None:
    sentence = "The training time is unknown, so the score leaves it out: model.trained_s=<seconds> counts it."
    (row,) = [line for line in table(UNKNOWN).splitlines() if line.startswith("training time")]
    assert row.split() == ["training", "time", "unknown", "unknown"]
    baseline = table(dataclasses.replace(UNKNOWN, comparison=None))
    for text in (table(UNKNOWN), baseline, note(UNKNOWN)):
        assert " ".join(text.split()).count(sentence) == 1 and "None" not in text
    assert "(10,000 kB compressed), training time unknown." in note(UNKNOWN)
    assert sentence not in " ".join((table(RESULT) + note(RESULT)).split())


def test_a_model_that_came_trained_in_no_time_has_no_ratio() -> None:
    comparison = dataclasses.replace(COMPARISON, baseline_train_s=0.0, baseline_accuracy=0.0)
    lines = table(dataclasses.replace(RESULT, comparison=comparison)).splitlines()
    (line,) = (line for line in lines if line.startswith("training time"))
    assert " 0 s " in line and "x " not in line


def test_unknown_training_time_is_no_metric() -> None:
    ratios = {f"baseline/train_ratio{end}" for end in ("", "_low", "_high")}
    left_out = {"time/train_total_s", "score/train_time_db", "score/gain_train_time_db"} | ratios
    assert metrics_of(RESULT).keys() - metrics_of(UNKNOWN).keys() == left_out
    assert None not in metrics_of(UNKNOWN).values()
    assert metrics_of(UNKNOWN)["score/operational"] == 35.0
    # A cell of unknown time whose baseline's is known, as after distillation from an unknown teacher.
    assert UNKNOWN.comparison is not None
    known = dataclasses.replace(UNKNOWN, comparison=dataclasses.replace(UNKNOWN.comparison, baseline_train_s=100.0))
    assert "score/gain_train_time_db" not in metrics_of(known)


def test_flatten() -> None:
    assert dict(flatten({"a": {"b": 1, "c": {"d": None}}, "e": 2})) == {"a.b": 1, "a.c.d": None, "e": 2}


def test_verdict_begins_with_what_is_worse() -> None:
    lost = dataclasses.replace(
        COMPARISON, accuracy="worse", accuracy_p_value=1e-9, baseline_accuracy=0.8, test_time="worse", latency_ratio=1.6
    )
    *_, first, _, last, _ = table(
        dataclasses.replace(RESULT, comparison=lost, violations=(), majority=None)
    ).splitlines()
    assert first == "1.60 times slower, accuracy 25.0 points worse (p < 0.001), 2.00 times smaller."
    assert len(first) <= 80
    assert last == "Worse in accuracy; better in time and size (time is testing and training"
    same = dataclasses.replace(COMPARISON, time="tied", test_time="tied", size="tied")
    text = table(dataclasses.replace(RESULT, comparison=same, violations=(), majority=None))
    assert "Equally large, test time tied, accuracy tied (+5.0 points" in text
    assert "Tied in all (time is" in text


def test_brief_is_one_line() -> None:
    assert brief(RESULT) == "vgg16-cifar10-quantize_int8: 55.0%, 10.0 ms, 10,000 kB, trained in 100 s"
    assert brief(UNKNOWN).endswith("10,000 kB, training time unknown")


@pytest.mark.parametrize("accuracy", ["better", "tied", "worse"])
def test_table_fits_a_terminal_of_80_columns(accuracy: Verdict) -> None:
    lost = dataclasses.replace(
        COMPARISON, accuracy=accuracy, accuracy_p_value=0.00012, baseline_accuracy=0.999, latency_ratio=0.0312
    )
    result = dataclasses.replace(RESULT, model="efficientnet_lite0", technique="prune_filters_quantize_int8")
    assert max(map(len, table(dataclasses.replace(result, comparison=lost)).splitlines())) <= 80


def test_only_an_equal_accuracy_is_unchanged() -> None:
    same = dataclasses.replace(COMPARISON, baseline_accuracy=0.55, accuracy_p_value=1.0)
    assert "accuracy unchanged (55.0%, p = 1)." in table(dataclasses.replace(RESULT, comparison=same))
