"""Every moment of a process counts for one part of one cell."""

import subprocess
import sys
import time

import pytest

from pipelines.system import stopwatch
from pipelines.system.stopwatch import PARTS
from tests.places import ROOT


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stopwatch, "time", made)
    # Counted from that clock from now on.
    monkeypatch.setattr(stopwatch, "_counted_to", made.now)
    return made


def test_parts_nest_and_the_innermost_counts(clock: Clock) -> None:
    with stopwatch.cell() as cell:
        with stopwatch.part("optimize"):
            clock.sleep(2)
            with stopwatch.part("train"):
                clock.sleep(4)
            clock.sleep(3)
        clock.sleep(1)
        seconds = cell.seconds
    assert {name: of_one for name, of_one in seconds.items() if of_one} == {"start": 1, "optimize": 5, "train": 4}


def test_a_cells_clock_stops_while_another_cell_runs(clock: Clock) -> None:
    with stopwatch.cell() as outer:
        with stopwatch.part("optimize"), stopwatch.cell() as inner, stopwatch.part("train"):
            clock.sleep(5)
            within = inner.seconds
        assert within["train"] == 5
        assert outer.seconds["optimize"] == 0 and outer.seconds["train"] == 0
        assert outer.before["train"] == 5
        assert stopwatch.total(outer)["train"] == 5


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
