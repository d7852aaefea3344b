"""Every moment of a process counts for one part of one cell."""

import subprocess
import sys
import time

import pytest

from pipelines.system import stopwatch
from pipelines.system.stopwatch import PARTS
from tests.places import ROOT


def test_parts_nest_and_the_innermost_counts() -> None:
    with stopwatch.cell() as cell:
        began = time.perf_counter()
        with stopwatch.part("optimize"):
            time.sleep(0.02)
            with stopwatch.part("train"):
                time.sleep(0.04)
            time.sleep(0.02)
        seconds, elapsed = cell.seconds, time.perf_counter() - began
    assert seconds["train"] >= 0.04
    assert seconds["optimize"] >= 0.04
    assert seconds["record"] == 0
    assert sum(seconds.values()) == pytest.approx(elapsed, abs=0.005)


def test_a_cells_clock_stops_while_another_cell_runs() -> None:
    with stopwatch.cell() as outer:
        with stopwatch.part("optimize"), stopwatch.cell() as inner, stopwatch.part("train"):
            time.sleep(0.05)
            within = inner.seconds
        assert within["train"] >= 0.05
        assert outer.seconds["optimize"] < 0.02 and outer.seconds["train"] == 0
        assert outer.before["train"] >= 0.05
        assert stopwatch.total(outer)["train"] == outer.before["train"]


def test_a_part_that_raises_counts() -> None:
    with stopwatch.cell() as cell:
        with pytest.raises(ValueError, match="no"), stopwatch.part("convert"):
            time.sleep(0.01)
            raise ValueError("no")
        assert cell.part == "start"
        assert cell.seconds["convert"] >= 0.01


def test_a_process_counts_from_its_beginning() -> None:
    code = "from pipelines.system.stopwatch import current, total; print(sum(total(current()).values()), flush=True)"
    before = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        begun = time.monotonic()
        assert process.stdout is not None
        age = float(process.stdout.readline())
        read = time.monotonic()
    # The kernel counts hundredths of a second.
    assert 0 < age <= read - before + 0.02
    # Its start and the reading of its answer take little time, but the machine may be busy.
    assert age >= read - begun - 1


def test_metrics_have_the_sum() -> None:
    given = dict.fromkeys(PARTS, 1.0)
    assert stopwatch.metrics(given)["wall/total_s"] == len(PARTS)
    assert set(stopwatch.metrics(given)) == {f"wall/{part}_s" for part in PARTS} | {"wall/total_s"}
