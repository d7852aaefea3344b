"""Every moment of a process counts for one part of one cell."""

import time

import psutil
import pytest

from pipelines import breakdown
from pipelines.breakdown import PARTS


def test_parts_nest_and_the_innermost_counts() -> None:
    with breakdown.cell() as cell:
        began = time.perf_counter()
        with breakdown.part("optimize"):
            time.sleep(0.02)
            with breakdown.part("train"):
                time.sleep(0.04)
            time.sleep(0.02)
        seconds, elapsed = cell.seconds, time.perf_counter() - began
    assert seconds["train"] >= 0.04
    assert seconds["optimize"] >= 0.04
    assert seconds["record"] == 0
    assert sum(seconds.values()) == pytest.approx(elapsed, abs=0.005)


def test_a_cell_stands_still_while_another_is_run_first() -> None:
    with breakdown.cell() as outer:
        with breakdown.part("optimize"), breakdown.cell() as inner, breakdown.part("train"):
            time.sleep(0.05)
            within = inner.seconds
        assert within["train"] >= 0.05
        assert outer.seconds["optimize"] < 0.02 and outer.seconds["train"] == 0
        assert outer.before["train"] >= 0.05
        assert breakdown.total(outer)["train"] == outer.before["train"]


def test_what_raises_still_counts_and_the_outer_part_goes_on() -> None:
    with breakdown.cell() as cell:
        with pytest.raises(ValueError, match="no"), breakdown.part("convert"):
            time.sleep(0.01)
            raise ValueError("no")
        assert cell.part == "start"
        assert cell.seconds["convert"] >= 0.01


def test_a_process_counts_from_its_beginning() -> None:
    bottom = breakdown._cells[0]
    total = sum(breakdown.total(bottom).values())
    age = time.time() - psutil.Process().create_time()
    assert total == pytest.approx(age, abs=0.2)


def test_metrics_have_the_sum() -> None:
    given = dict.fromkeys(PARTS, 1.0)
    assert breakdown.metrics(given)["wall/total_s"] == len(PARTS)
    assert set(breakdown.metrics(given)) == {f"wall/{part}_s" for part in PARTS} | {"wall/total_s"}
