"""Where a cell's wall time goes. Every moment counts for one part of one cell.

Parts nest, and the innermost counts. While a cell has another one run first in the same process, its own clock stands
still.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# start: interpreter, libraries, checks, looking into the store, opening the run. optimize: the technique but for its
# training. convert: export and the check of its effect. record: files, figures, MLflow. wait: for another process,
# which trains what this cell needs, is being measured, or is the tracking server.
PARTS = ("start", "data", "build", "train", "optimize", "convert", "measure", "record", "wait")
# Their sum, in MLflow.
TOTAL = "wall/total_s"


class Breakdown:
    """Seconds of one cell by part. before: seconds of the cells that were run first, in between."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self.before = dict.fromkeys(PARTS, 0.0)
        self.part = "start"

    @property
    def seconds(self) -> dict[str, float]:
        """By part, up to now; their sum is the cell's wall time."""
        _count()
        return dict(self._seconds)

    def add(self, seconds: float) -> None:
        """Count time for the present part."""
        self._seconds[self.part] += seconds


# The first is what this process itself is for, from its beginning; the last is at work now.
_cells = [Breakdown()]
_counted_to: float | None = None


def _count() -> None:
    global _counted_to  # noqa: PLW0603 (one clock for the process, as there is one wall)
    now = time.perf_counter()
    _cells[-1].add(_age_s() if _counted_to is None else now - _counted_to)
    _counted_to = now


def _age_s() -> float:
    """How long this process has been running."""
    if platform.system() == "Linux":
        # psutil counts from the second in which the machine was booted, up to a second too early.
        ticks = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
    import psutil

    return time.time() - psutil.Process().create_time()


def current() -> Breakdown:
    """The breakdown of the cell that is at work."""
    return _cells[-1]


@contextmanager
def part(name: str) -> Iterator[None]:
    """Count what is done inside for this part of the present cell."""
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
    """Count what is done inside for a cell of its own."""
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
    """By part, with the cells that were run first."""
    return {name: seconds + one.before[name] for name, seconds in one.seconds.items()}


def metrics(seconds: Mapping[str, float]) -> dict[str, float]:
    """By MLflow name, with their sum."""
    return {f"wall/{name}_s": value for name, value in seconds.items()} | {TOTAL: sum(seconds.values())}
