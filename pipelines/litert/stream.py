"""Many exported models timed in turns, in one process.

Each exported model has a burst of calls in its turn: single calls in turns would find the caches full of other models'
data, unlike in deployment. A cell and its baseline take turns in bursts too (`pipelines.litert.child`).
"""

import random
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from pipelines.litert.latency import Nanoseconds
from pipelines.litert.start import Answering
from pipelines.system.runtime import no_garbage_collection

# The durations of all profiles, divided by their windows, are multiples of it.
BURST_S = 0.02
# Least number of counted calls of a burst.
BURST_CALLS = 5
IMAGES = 16
# Greatest difference of an image's logits alone and in a batch, in units of their range.
MAX_DIFFERENCE = 0.02


def random_images(shape: tuple[int, int, int], count: int, seed: int) -> npt.NDArray[np.uint8]:
    """uint8 (count, h, w, 3), uniformly distributed: timing needs no dataset."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def in_turn(exported_model: Answering, images: npt.NDArray[np.uint8]) -> Callable[[], object]:
    """A call of the exported model with the next of the images, (n, h, w, 3), which begin again after the last."""
    following = cycle(images)
    return lambda: exported_model.query(next(following))


def check_same(alone: npt.NDArray[np.float32], together: npt.NDArray[np.float32], path: Path) -> None:
    """Raise ValueError where the logits of images in a batch differ from those of single images."""
    differing = float(np.abs(alone - together).max())
    if not differing <= MAX_DIFFERENCE * span(alone):
        raise ValueError(
            f"{path} must give the same logits in a batch as for single images, got a difference of {differing:.3g}"
        )


def span(logits: npt.NDArray[np.float32]) -> float:
    """The range of logits, above 0."""
    return max(float(np.ptp(logits)), 1e-6)


def time_bursts(
    calls: Sequence[Callable[[], object]],
    *,
    warmup_calls: int,
    min_duration_s: float,
    min_calls: int,
    limit_s: float,
    seed: int,
    on_average: bool = False,
) -> list[tuple[Nanoseconds, npt.NDArray[np.int64]]]:
    """Nanoseconds of all counted calls, and their number in each burst, for each of `calls`: int64 (calls,), (rounds,).

    In every round each has one burst, in random order, so that a slow phase of the machine affects all equally. A burst
    has at least `BURST_S` and `BURST_CALLS` of counted calls, after one that is not counted. Rounds continue until each
    has `min_calls` and `min_duration_s` of counted calls, or until `limit_s` has passed since the start; there is
    always one round. on_average: the duration is that of the average model, so that a model with slow calls, whose
    bursts are longer, does not wait for a fast one.
    """
    for call in calls:
        for _ in range(warmup_calls):
            call()
    taken_ns: list[list[int]] = [[] for _ in calls]
    bursts: list[list[int]] = [[] for _ in calls]
    turns, shuffle = list(range(len(calls))), random.Random(seed).shuffle
    began = perf_counter_ns()
    with no_garbage_collection(collect=True):
        while True:
            shuffle(turns)
            for turn in turns:
                taken = _burst(calls[turn])
                taken_ns[turn] += taken
                bursts[turn].append(len(taken))
            sums_ns = [sum(one) for one in taken_ns] or [0]
            duration_ns = sum(sums_ns) / len(sums_ns) if on_average else min(sums_ns)
            enough = all(len(one) >= min_calls for one in taken_ns) and duration_ns >= min_duration_s * 1e9
            if enough or not calls or perf_counter_ns() - began >= limit_s * 1e9:
                break
    return [(np.array(ns, np.int64), np.array(counts, np.int64)) for ns, counts in zip(taken_ns, bursts, strict=True)]


def _burst(call: Callable[[], object]) -> list[int]:
    call()
    taken: list[int] = []
    left_ns = int(BURST_S * 1e9)
    while left_ns > 0 or len(taken) < BURST_CALLS:
        start = perf_counter_ns()
        call()
        taken.append(perf_counter_ns() - start)
        left_ns -= taken[-1]
    return taken
