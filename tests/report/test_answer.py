"""The first screen of a report: question, shortlist and reason in words."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.comparison.shortlist import Shortlist, points, shortlist
from pipelines.report import page
from pipelines.report.answer import first_screen, question, why
from pipelines.report.rows import baselines
from pipelines.report.words import short_names
from tests.comparison.recorded import compared, recorded

SMALL = recorded("quantize_int8", megabytes=0.25, accuracy=0.79, test_ms=0.5)
COMPARISON = compared(recorded("baseline"), SMALL, recorded("cluster", megabytes=0.4, accuracy=0.7))


def found(**changes: object) -> Shortlist:
    """The shortlist of COMPARISON with another second row."""
    made = shortlist(COMPARISON)
    assert made is not None
    first, second = made.rows
    return replace(made, rows=(first, replace(second, **changes)))  # type: ignore[arg-type]


def table(**changes: object) -> Any:
    """The rows of the first screen with that shortlist."""
    return first_screen(COMPARISON, found(**changes))["rows"]


@pytest.mark.parametrize(
    ("fraction", "words"), [(0, "0 points"), (0.01, "1 point"), (0.012345, "1.23 points"), (2e-4, "0.02 points")]
)
def test_points_in_words(fraction: float, words: str) -> None:
    assert points(fraction) == words


def test_questions() -> None:
    assert question(1234, "digits") == "Which of these 1,234 cells is fit to be operated on digits?"
    assert question(1, "digits") == "Is the one cell fit to be operated on digits?"


def test_rows_of_the_shortlist() -> None:
    first, second = table(doubt="not sure on 1,000 images")
    assert first == {
        "allowance": "0 points",
        "name": "vgg16 baseline",
        "runtime": "",
        "setting": "",
        "doubt": "",
        "accuracy": "80.0%",
        "interval": "77.4% to 82.4%",
        "test": "1.00 ms",
        "size": "1,000 kB",
        "training": "10.0 s",
        "score": "70.6 dB",
        "smaller": "",
        "faster": "",
        "at": 2,
        "fittest": False,
    }
    assert (second["allowance"], second["doubt"]) == (
        "1 point or more",
        "below 5 points, this is not sure on 1,000 images.",
    )
    assert (second["smaller"], second["faster"]) == ("4.00 times smaller", "2.00 times faster")
    assert (second["at"], second["fittest"]) == (0, True)


def test_ratios_below_one_and_unknown_ones() -> None:
    *_, row = table(times_smaller=0.4, times_faster=math.nan)
    assert (row["smaller"], row["faster"]) == ("2.50 times larger", "")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "1 point less accurate than vgg16 baseline, and 4.00 times smaller and 2.00 times faster.",
        ),
        # It continues the baseline's training: no more and no less.
        (
            {"times_smaller": 0.9},
            "vgg16 baseline, and 1.11 times larger and 2.00 times faster.",
        ),
        ({"drop": 0.0}, "as accurate as vgg16 baseline"),
        ({"times_smaller": 0.5, "times_faster": math.nan}, "vgg16 baseline, and 2.00 times larger."),
        ({"times_smaller": 1.0, "times_faster": 1.01}, "and neither smaller nor faster."),
    ],
)
def test_why_the_winner_is_the_answer(changes: dict[str, object], sentence: str) -> None:
    words = why(COMPARISON, found(**changes))
    assert words.startswith("vgg16 quantize_int8 is the fittest cell within 2 points of the most accurate: it is ")
    assert sentence in words


def test_why_without_a_choice() -> None:
    alone = compared(recorded("baseline"))
    assert (
        why(alone, shortlist(alone)) == "vgg16 baseline is the only cell here: it is right on 80.0% of the test images."
    )
    best = compared(recorded("baseline"), recorded("cluster", accuracy=0.7))
    assert why(best, shortlist(best)) == (
        "vgg16 baseline is the most accurate cell (80.0%), and the fittest within 2 points of it."
    )
    nothing = compared(recorded("cluster", feasible=False))
    assert shortlist(nothing) is None
    assert why(nothing, None) == "No cell keeps the budgets of its score profile."
    assert first_screen(nothing, None)["rows"] == []


def test_warning_and_doubt_are_on_the_page(tmp_path: Path) -> None:
    doubtful = replace(found(doubt="not sure on 1,000 images"), warnings=("The test set is small.",))
    html = page.write([(COMPARISON, doubtful)], tmp_path, chosen="")[0].read_text()
    assert "Below 5 points, this is not sure on 1,000 images." in html
    assert "<b>Caution:</b> The test set is small." in html


def test_baseline_of_a_cell_has_its_model_and_settings() -> None:
    rate = {"training.learning_rate": "0.1"}
    comparison = compared(
        recorded("baseline"),
        recorded("cluster", params=rate),
        recorded("baseline", params=rate, accuracy=0.75),
        recorded("cluster", model="resnet50"),
    )
    of = {
        (entry.model, entry.technique): None if base is None else comparison.entries[base].label
        for entry, base in zip(comparison.entries, baselines(comparison.entries), strict=True)
    }
    assert of["vgg16", "cluster"] == "vgg16-cifar10-baseline training.learning_rate=0.1"
    assert of["vgg16", "baseline"] is None and of["resnet50", "cluster"] is None


def test_the_answer_is_not_the_highest_score_far_below() -> None:
    comparison = compared(
        recorded("baseline", accuracy=0.661, megabytes=4.0),
        recorded("quantize_int8", accuracy=0.651),
        recorded("transfer_quantize_int8", accuracy=0.541, megabytes=0.05, train_s=1.0),
    )
    assert comparison.winner is not None and comparison.winner.technique == "transfer_quantize_int8"
    assert why(comparison, shortlist(comparison)) == (
        "vgg16 quantize_int8 is the fittest cell within 2 points of the most accurate: it is 1 point less accurate "
        "than vgg16 baseline, and 4.00 times smaller."
    )
    marked = [row["name"] for row in first_screen(comparison, shortlist(comparison))["rows"] if row["fittest"]]  # type: ignore[attr-defined]
    assert marked == ["vgg16 quantize_int8"]


@pytest.mark.parametrize(
    ("accuracy", "beginning", "ending"),
    [
        (0.84, "within 10 points of the most accurate, as none within 2 points keeps its budgets: it is 6 ", "0.06"),
        (0.7, "that keeps its budgets: it is 20 points less ", "0.2"),
    ],
)
def test_answer_where_no_cell_is_near_enough(accuracy: float, beginning: str, ending: str) -> None:
    comparison = compared(recorded("baseline", accuracy=0.9, feasible=False), recorded("cluster", accuracy=accuracy))
    answer = why(comparison, shortlist(comparison))
    assert answer.startswith(f"vgg16 cluster is the fittest cell {beginning}")
    assert answer.endswith(f" `opscore promote --dataset cifar10 --max-drop {ending}` allows this loss.")
    there = why(comparison, shortlist(comparison), " --target pi --experiment goals")
    assert there.endswith(f" --max-drop {ending} --target pi --experiment goals` allows this loss.")


def test_a_model_that_was_trained_in_no_time_has_an_answer() -> None:
    weights = {"score.train_time": "0"}
    base = recorded("baseline", accuracy=0.81, params=weights)
    base = replace(base, metrics=base.metrics | {"time/train_total_s": 0.0})
    comparison = compared(base, recorded("qat", megabytes=0.3, params=weights))
    assert why(comparison, shortlist(comparison)).endswith("vgg16 baseline, and 3.33 times smaller.")


def test_why_names_the_training_that_decides() -> None:
    # Larger and no faster, but a third of the training.
    comparison = compared(
        recorded("qat", accuracy=0.668, megabytes=3.2, train_s=64.0, own_s=43.0),
        recorded("quantize_dynamic", accuracy=0.6515, megabytes=3.7, train_s=20.7),
    )
    assert why(comparison, shortlist(comparison)).endswith(
        "vgg16 qat, and 1.16 times larger. It took 3.09 times less training."
    )


def test_trainings_of_two_machines_are_no_sentence() -> None:
    base, cluster = recorded("baseline"), recorded("cluster", megabytes=0.4, accuracy=0.7)
    told = {}
    for machine in ("a GPU", ""):
        small = replace(SMALL, metrics={**SMALL.metrics, "time/train_total_s": 120.0}, trained_on=machine)
        comparison = compared(base, small, cluster)
        told[machine] = why(comparison, shortlist(comparison))
    assert "It took 12.0 times more training." in told[""] and "training" not in told["a GPU"]


def test_cells_of_two_donors_have_two_names() -> None:
    donors = [
        replace(
            recorded(
                "layer_transfer", accuracy=accuracy, megabytes=megabytes, params={"technique.source.model": donor}
            ),
            source=f"{donor}-cifar10-baseline",
        )
        for donor, accuracy, megabytes in (("vgg16", 0.80, 1.0), ("vgg19", 0.795, 0.5))
    ]
    comparison = compared(*donors)
    screen = first_screen(comparison, shortlist(comparison))
    names = short_names(comparison).values()
    assert set(names) == {f"vgg16 layer_transfer from vgg{n}-cifar10-baseline" for n in (16, 19)}
    assert str(screen["why"]).startswith("vgg16 layer_transfer from vgg19-cifar10-baseline is the fittest cell")
    assert "less accurate than vgg16 layer_transfer from vgg16-cifar10-baseline" in str(screen["why"])
    assert {row["name"] for row in screen["rows"]} == set(names)  # type: ignore[attr-defined]
