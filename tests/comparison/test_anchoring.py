"""Times of cells of one baseline that ran in different minutes."""

import math
from dataclasses import replace

import pytest

from pipelines.comparison.anchoring import anchored
from pipelines.results.metrics import GAIN, SCORE, TEST_MS, TIME_RATIO
from pipelines.results.recorded_cell import RecordedCell
from tests.comparison.recorded import compared, recorded


def baseline(**more: object) -> RecordedCell:
    return replace(recorded("baseline", test_ms=2.0, **more), fingerprint="b")  # type: ignore[arg-type]


def optimized(technique: str, *, test_ms: float, ratio: float, **more: object) -> RecordedCell:
    cell = recorded(technique, test_ms=test_ms, **more)  # type: ignore[arg-type]
    return replace(cell, baseline="b", metrics=cell.metrics | {TIME_RATIO: ratio})


def test_score_is_that_of_the_baseline_plus_the_gain() -> None:
    # Its minute was three times as busy as that of its baseline: 2 ms x 0.5 are 1 ms.
    cell, base = optimized("qat", test_ms=3.0, ratio=0.5, megabytes=0.25), baseline()
    (found,) = anchored([cell], [base])
    assert found.metrics[TEST_MS] == 1.0
    assert found.metrics[SCORE] - cell.metrics[SCORE] == pytest.approx(5 * math.log10(3))
    assert found.metrics[SCORE] == pytest.approx(base.metrics[SCORE] + found.metrics[GAIN])
    # 10 log10(4) for the size and 5 log10(2) for the time.
    assert found.metrics[GAIN] == pytest.approx(7.526, abs=1e-3)


def test_ratio_decides_and_not_the_minute() -> None:
    cells = [optimized("qat", test_ms=3.0, ratio=0.5), optimized("cluster", test_ms=1.9, ratio=1.0), baseline()]
    by_own, by_ratio = compared(*cells).winner, compared(*anchored(cells, [])).winner
    assert by_own is not None and by_ratio is not None
    assert (by_own.technique, by_ratio.technique) == ("cluster", "qat")


def test_newest_baseline_of_the_same_conditions_counts() -> None:
    cell = optimized("qat", test_ms=3.0, ratio=0.5)
    newer = replace(baseline(started=1), run_id="newer", metrics=baseline().metrics | {TEST_MS: 4.0})
    elsewhere = replace(newer, run_id="elsewhere", started=2, hardware="another CPU")
    (found,) = anchored([cell], [baseline(), newer, elsewhere])
    assert found.metrics[TEST_MS] == 2.0


def test_cell_without_a_baseline_keeps_its_time() -> None:
    cell = optimized("qat", test_ms=3.0, ratio=0.5)
    assert anchored([cell], []) == [cell]
    assert anchored([cell], [baseline(hardware="another CPU")]) == [cell]


def test_budget_of_the_test_time_goes_by_the_same_time() -> None:
    params = {"score.max_test_ms": "1.5"}
    cell = optimized("qat", test_ms=3.0, ratio=0.5, params=params, feasible=False)
    slow = optimized("cluster", test_ms=1.4, ratio=0.9, params=params)
    found = anchored([cell, slow], [baseline(params=params)])
    assert [one.feasible for one in found] == [True, False]
