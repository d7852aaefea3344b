"""Columns name metrics that a finished cell has."""

import math
from pathlib import Path

import pytest
import yaml

from pipelines.results.columns import FILE, FIRST, GAIN, GAINS, HEADLINE, IMPROVED, MEASURED, SCORE, Column
from pipelines.results.metrics import metrics_of
from tests.results.test_summary import RESULT

PARETO = Path(__file__).resolve().parents[2] / "conf" / "hydra" / "sweeper" / "pareto.yaml"


def test_every_metric_is_recorded() -> None:
    metrics = metrics_of(RESULT)
    for column in (*MEASURED, *HEADLINE, *GAINS.values(), IMPROVED):
        assert column.metric in metrics, column
    assert set(yaml.safe_load(PARETO.read_text())["objectives"]) <= set(metrics)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (SCORE, 97.918, "97.92"),
        (GAIN, -0.001, "+0.00"),
        (GAIN, -7.315, "-7.32"),
        (FILE, 89_812, "89.8"),
        (IMPROVED, 2, "2 of 3"),
        (FIRST, 0.996, "100%"),
        (SCORE, None, "-"),
        (SCORE, math.nan, "-"),
    ],
)
def test_numbers_are_formatted(column: Column, value: float | None, text: str) -> None:
    assert column.text(value) == text
