"""Turns of the compared ways, as the load of a machine changes."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipelines.litert.exported_model import ExportedModel

T = TypeVar("T")
MIN_CALLS = 5


def take_turns(ways: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """The results of each way. Every second round is in reverse order, so that no way is always first."""
    given: dict[str, list[T]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name in list(ways) if repeat % 2 == 0 else list(ways)[::-1]:
            given[name].append(ways[name]())
    return given


def milliseconds(exported_model: ExportedModel, images: npt.NDArray[np.uint8], round_s: float) -> float:
    """The median time of a call with one image over a round, in milliseconds."""
    taken_ns: list[int] = []
    started = time.perf_counter()
    while time.perf_counter() - started < round_s or len(taken_ns) < MIN_CALLS:
        before = time.perf_counter_ns()
        exported_model.query(images[len(taken_ns) % len(images)])
        taken_ns.append(time.perf_counter_ns() - before)
    return statistics.median(taken_ns) / 1e6


def compared(given: Mapping[str, Sequence[float]], unit: str, to: str) -> str:
    """A table of best (least) and median, each with its ratio to that of the way `to`."""
    best = {name: min(values) for name, values in given.items()}
    median = {name: statistics.median(values) for name, values in given.items()}
    lines = [f"| way | best | to {to} | median | to {to} |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {best[name]:.1f} {unit} | x {best[name] / best[to]:.3f} "
        f"| {median[name]:.1f} {unit} | x {median[name] / median[to]:.3f} |"
        for name in given
    ]
    return "\n".join(lines)


def compared_clocks(given: Mapping[str, Sequence[tuple[float, float]]], to: str) -> str:
    """Two such tables, of seconds of wall time and of CPU time, which what else runs on a machine changes less."""
    tables = []
    for number, clock in enumerate(("wall", "CPU")):
        seconds = {way: [taken[number] for taken in all_taken] for way, all_taken in given.items()}
        tables.append(f"{clock} time\n\n{compared(seconds, 's', to)}")
    return "\n\n".join(tables)
