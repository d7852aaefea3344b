"""A cell's wall time by part. Every moment counts for exactly one part of one cell.

Parts nest, and the innermost one counts. While a cell that this cell needs runs in the same process, this cell's clock
stands still.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pipelines.system.processes import start_ticks

# start: interpreter, libraries, checks, search of the store, opening the run. optimize: the technique without its
# training. convert: export and the check of its effect. record: files, figures, MLflow. wait: for another process,
# which trains a cell that this one needs, is being measured, or is the tracking server.
PARTS = ("start", "data", "build", "train", "optimize", "convert", "measure", "record", "wait")
# The name of their sum in MLflow.
TOTAL = "wall/total_s"


class Breakdown:
    """Seconds of one cell by part. before: seconds of the cells that ran first because this one needs them."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self.before = dict.fromkeys(PARTS, 0.0)
        self.part = "start"

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by part up to now; their sum is the cell's wall time."""
        _count()
        return dict(self._seconds)

    def add(self, seconds: float) -> None:
        """Count time for the current part."""
        self._seconds[self.part] += seconds


# The first counts from the start of this process; the last one is the current one.
_cells = [Breakdown()]
_counted_to: float | None = None
# Seconds since the machine's boot at which this process was requested, where that was before its start.
_requested: float | None = None


def count_from(booted_s: float) -> None:
    """Count from an earlier moment than this process's start: seconds since the machine's boot."""
    global _requested  # noqa: PLW0603 (the process has one clock)
    _requested = booted_s


def _count() -> None:
    global _counted_to  # noqa: PLW0603 (the process has one clock)
    now = time.perf_counter()
    _cells[-1].add(_age_s() if _counted_to is None else now - _counted_to)
    _counted_to = now


def _age_s() -> float:
    """Seconds since this process was requested or, where nobody said when, since its start."""
    if _requested is not None:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - _requested
    if platform.system() == "Linux":
        # psutil rounds the time of the boot down to a second.
        return time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks("self") / os.sysconf("SC_CLK_TCK")
    import psutil

    return time.time() - psutil.Process().create_time()


def current() -> Breakdown:
    """The breakdown of the current cell."""
    return _cells[-1]


@contextmanager
def part(name: str) -> Iterator[None]:
    """Count the time of the block for this part of the current cell."""
    cell = _cells[-1]
    _count()
    outer, cell.part = cell.part, name
    try:
        yield
    finally:
        _count()
        cell.part = outer


@contextmanager
def cell() -> Iterator[Breakdown]:
    """Count the time of the block for a new cell."""
    _count()
    own = Breakdown()
    _cells.append(own)
    try:
        yield own
    finally:
        _count()
        _cells.pop()
        outer = _cells[-1].before
        for name, seconds in total(own).items():
            outer[name] += seconds


def total(one: Breakdown) -> dict[str, float]:
    """Seconds by part, with those of the cells that ran first."""
    return {name: seconds + one.before[name] for name, seconds in one.seconds.items()}


def metrics(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds by MLflow name, with their sum."""
    return {f"wall/{name}_s": value for name, value in seconds.items()} | {TOTAL: sum(seconds.values())}
