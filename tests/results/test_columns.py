"""Columns name metrics that a finished cell has."""

import math
from pathlib import Path

import pytest
import yaml

from pipelines.results.columns import (
    FILE,
    FIRST,
    GAIN,
    GAINS,
    HEADLINE,
    IMPROVED,
    MEASURED,
    SCORE,
    Column,
    percent,
    three_digits,
)
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
        (SCORE, 97.918, "97.9"),
        (GAIN, -0.001, "+0.0"),
        (GAIN, -7.315, "-7.3"),
        (FILE, 89_812, "89.8"),
        (IMPROVED, 2, "2 of 3"),
        (FIRST, 0.996, "100%"),
        (SCORE, None, "-"),
        (SCORE, math.nan, "-"),
    ],
)
def test_numbers_are_formatted(column: Column, value: float | None, text: str) -> None:
    assert column.text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0128312, "0.0128"),
        (0.99961, "1.00"),
        (2.0, "2.00"),
        (89.812, "89.8"),
        (305.3, "305"),
        (999.6, "1,000"),
        (13_484.0, "13,500"),
        (-0.409, "-0.409"),
        (0.0, "0"),
        (math.inf, "inf"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert three_digits(value) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.986, "98.6%"), (0.9996, "99.96%"), (0.99999, "99.999%"), (1.0, "100.0%"), (0.0, "0.0%")],
)
def test_what_is_not_all_does_not_read_as_all(fraction: float, text: str) -> None:
    assert percent(fraction) == text
