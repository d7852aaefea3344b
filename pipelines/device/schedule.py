"""The processes of a session: which there are, in what order each loads the models, and how long they take."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.device.raw import Raw
from pipelines.device.settings import Settings
from pipelines.litert.stream import BURST_CALLS, BURST_S
from pipelines.system import energy

# Start of a process with Python, NumPy and LiteRT, for the estimate of the duration.
PROCESS_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The window, number of threads and batch of one process. before: its place among those of its setting, from 0."""

    window: int
    threads: int
    batch: int
    before: int


def passes_of(settings: Settings) -> list[Pass]:
    """Every setting in every window, so that a change of the machine affects all settings."""
    in_window = [(load, threads, 1) for load in range(settings.loads) for threads in settings.threads]
    in_window += [(0, max(settings.threads), batch) for batch in settings.batches]
    return [
        Pass(window=window, threads=threads, batch=batch, before=window * loads_in_window(settings, batch) + load)
        for window in range(settings.windows)
        for load, threads, batch in in_window
    ]


def loads_in_window(settings: Settings, batch: int) -> int:
    """How many processes a window has for one number of threads or one batch."""
    return settings.loads if batch == 1 else 1


def order_of(count: int, before: int, processes: int, seed: int) -> tuple[int, ...]:
    """The order in which one of a setting's processes loads `count` models.

    What is loaded first lies elsewhere in memory than what is loaded last, and may be 7% slower. Each model therefore
    has each place about as often as every other: a random order, which the processes continue from one place after
    another. before: the number of processes of the setting that came earlier.
    """
    order = random.Random(seed).sample(range(count), count)
    first = before * max(count, processes) // processes % count
    return (*order[first:], *order[:first])


def estimate_s(raws: Sequence[Raw], settings: Settings) -> float:
    """Seconds that all windows will take, estimated from the calls at start-up.

    More threads count as no faster, and a batch as its number of single calls.
    """
    processes = settings.windows * settings.loads
    calls_s = np.array([np.median([start.call_ms for start in raw.starts]) for raw in raws]) / 1e3
    loading_s = sum(np.median([start.load_ms + start.first_call_ms for start in raw.starts]) for raw in raws) / 1e3
    latency_s = _rounds_s(calls_s, settings.min_duration_s / processes, settings.min_calls / processes)
    total = len(settings.threads) * processes * (latency_s + loading_s + PROCESS_S)
    for batch in settings.batches:
        min_s = settings.min_duration_s / 4 / settings.windows
        total += settings.windows * (_rounds_s(calls_s * batch, min_s, 1) + 2 * loading_s + PROCESS_S)
    if energy.is_available():
        each_s = settings.min_duration_s / 4 + PROCESS_S
        total += len(settings.threads) * (len(raws) * each_s + loading_s + settings.warmup_calls * calls_s.sum())
    return float(total)


def _rounds_s(calls_s: npt.NDArray[np.float64], min_s: float, min_calls: float) -> float:
    burst_calls = np.maximum(np.ceil(BURST_S / calls_s), BURST_CALLS)
    rounds = np.ceil(np.maximum(min_s / (burst_calls * calls_s), min_calls / burst_calls)).max()
    return float(rounds * ((burst_calls + 1) * calls_s).sum())


def minutes(duration_s: float) -> str:
    """`40 s` or `12 min`."""
    return f"{duration_s:.0f} s" if duration_s < 90 else f"{duration_s / 60:.0f} min"
