"""Time of single queries.

Method: MLPerf Inference's single stream (Reddi et al. 2020, arXiv:1911.02549): the next image is sent after the
previous answer, and percentiles are reported, not means. Compared models take turns.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.system.runtime import no_garbage_collection

Query = Callable[[npt.NDArray[np.uint8]], Any]
Nanoseconds = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Latency percentiles in milliseconds, interpolated linearly."""

    p50_ms: float
    p90_ms: float
    p99_ms: float

    @classmethod
    def of(cls, latency_ns: Nanoseconds) -> "Percentiles":
        """The percentiles of latencies in nanoseconds, shape (calls,)."""
        p50, p90, p99 = (float(value) / 1e6 for value in np.percentile(latency_ns, (50, 90, 99)))
        return cls(p50_ms=p50, p90_ms=p90, p99_ms=p99)


def time_interleaved(
    queries: Sequence[Query],
    images: npt.NDArray[np.uint8],
    *,
    warmup_calls: int,
    min_duration_s: float,
    min_calls: int,
    seed: int,
) -> list[Nanoseconds]:
    """Nanoseconds of every call of every query: one int64 array (rounds,) per query, all equally long.

    In each round every query gets the same image once, in random order, so that slow phases of the machine and the
    state of its caches affect all equally. Images, (n, h, w, 3), are used in turn. Timing continues until every query
    has `min_calls` calls and the timed calls have taken `min_duration_s` per query on average: a slow query does not
    prolong the timing of a fast one.
    """
    for index in range(warmup_calls):
        for query in queries:
            query(images[index % len(images)])
    turns = list(range(len(queries)))
    shuffle = random.Random(seed).shuffle
    elapsed_ns: list[list[int]] = [[] for _ in queries]
    total_ns = 0
    min_ns = min_duration_s * 1e9 * len(queries)
    rounds = 0
    # A collection during a call would count as the exported model's time.
    with no_garbage_collection(collect=True):
        while rounds < min_calls or total_ns < min_ns:
            image = images[rounds % len(images)]
            shuffle(turns)
            for turn in turns:
                query = queries[turn]
                start = perf_counter_ns()
                query(image)
                taken = perf_counter_ns() - start
                elapsed_ns[turn].append(taken)
                total_ns += taken
            rounds += 1
    return [np.array(taken, np.int64) for taken in elapsed_ns]
