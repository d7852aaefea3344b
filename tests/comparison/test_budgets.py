"""Budgets and goals of a score profile against what a recorded cell uses of them."""

import math

import pytest

from pipelines.comparison.budgets import used_budgets
from tests.comparison.recorded import compared, recorded


@pytest.mark.parametrize(
    ("name", "limit", "used"),
    [
        ("max_size_mb", "0.5", 0.5),
        ("max_test_ms", "0.5", 2.0),
        ("max_train_s", "5", 2.0),
        ("min_accuracy", "0.82", 0.82 / 0.79),
        # The baseline of 80% is right on one point more.
        ("max_accuracy_drop", "0.005", 2.0),
        ("max_accuracy_drop", "0", math.inf),
        ("min_size_reduction", "2", 0.5),
    ],
)
def test_used_part_of_a_budget(name: str, limit: str, used: float) -> None:
    cell = recorded("quantize_int8", accuracy=0.79, megabytes=0.25, params={f"score.{name}": limit})
    assert used_budgets(cell) == {name: pytest.approx(used)}
    (entry,) = compared(cell).entries
    assert entry.missed == ((name,) if used > 1 else ())


def test_unknown_training_time_misses_its_budget() -> None:
    params = {"score.max_train_s": "5", "score.max_test_ms": "2"}
    (entry,) = compared(recorded("baseline", train_s=None, params=params)).entries
    assert entry.missed == ("max_train_s",)
