"""Times of single queries: percentiles, and the ratio of two exported models.

Method: MLPerf Inference's single stream (Reddi et al. 2020, arXiv:1911.02549): the next image is sent after the
previous answer, and percentiles are reported, not means. Compared models take turns (`pipelines.litert.stream`) in
several windows, each in a fresh process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.results.statistics import resamples

Floats = npt.NDArray[np.float64]
Nanoseconds = npt.NDArray[np.int64]

# This fastest share of a burst's calls, and of an exported model's bursts, counts as undisturbed by other programs.
UNDISTURBED_QUANTILE = 0.1
# Two sessions' ratios may differ by this much although each session alone has a narrower interval.
MIN_HALF_WIDTH = 0.01
# The same for measurements of a few seconds.
SHORT_MIN_HALF_WIDTH = 0.02
# Fewer calls do not determine a 99th percentile (conf/measurement/thorough.yaml).
P99_CALLS = 662


@dataclass(frozen=True, kw_only=True)
class Percentiles:
    """Latency percentiles in milliseconds, interpolated linearly. p99_ms: None for fewer than P99_CALLS calls."""

    p50_ms: float
    p90_ms: float
    p99_ms: float | None

    @classmethod
    def of(cls, latency_ns: Nanoseconds) -> Percentiles:
        """The percentiles of latencies in nanoseconds, shape (calls,)."""
        p50, p90, p99 = (float(value) / 1e6 for value in np.percentile(latency_ns, (50, 90, 99)))
        return cls(p50_ms=p50, p90_ms=p90, p99_ms=p99 if len(latency_ns) >= P99_CALLS else None)


@dataclass(frozen=True, kw_only=True)
class Load:
    """One load of an exported model in one window: the times of all counted calls, and the calls in each burst."""

    window: int
    ns: Nanoseconds
    bursts: Nanoseconds


def loads_of(ns: Nanoseconds, bursts: Nanoseconds, rounds: Nanoseconds) -> list[Load]:
    """The loads of windows that have one load each: bursts holds the calls in each burst, rounds the bursts of each."""
    by_window = np.split(bursts, np.cumsum(rounds)[:-1])
    calls = np.split(ns, np.cumsum([int(own.sum()) for own in by_window])[:-1])
    return [
        Load(window=place, ns=own, bursts=of_one)
        for place, (own, of_one) in enumerate(zip(calls, by_window, strict=True))
    ]


def windows(loads: Sequence[Load]) -> list[int]:
    """The windows of the loads, in rising order."""
    return sorted({load.window for load in loads})


def ratio(
    loads: Sequence[Load], reference: Sequence[Load], *, seed: int, min_half_width: float = MIN_HALF_WIDTH
) -> tuple[float, float, float]:
    """The exported model's undisturbed time over its reference's, with the prediction interval of a repeated session's.

    Other programs slow one exported model by more than another, in one session and not in the next, which changes a
    ratio of medians. The undisturbed times are the same in both sessions (docs/lab-notes/intervals.md). The bounds are
    at least `min_half_width` away from the ratio. Raises ValueError for fewer than two windows.
    """
    drawn = resamples(len(windows(loads)), seed=seed)
    own, other = _Undisturbed.of(loads), _Undisturbed.of(reference)
    low, high = drawn.interval(np.log(own.ns(drawn.ways) / other.ns(drawn.ways)))
    low, high = min(low, math.log1p(-min_half_width)), max(high, math.log1p(min_half_width))
    once = np.ones_like(drawn.ways[:1])
    value = float((own.ns(once) / other.ns(once)).item())
    return value, value * math.exp(low), value * math.exp(high)


def short_ratio(loads: Sequence[Load], reference: Sequence[Load], *, seed: int) -> tuple[float, float, float]:
    """`ratio` of a measurement of a few seconds, during which other programs may never rest.

    The ratio of the medians of all calls is then off, and by how much shows how disturbed the measurement was. That
    distance d is a second error of this measurement, and its repeat has another one. They are added as independent
    errors to the half width h, on the log scale: sqrt(h^2 + 2 d^2). So the interval always contains the ratio of the
    medians.
    """
    value, low, high = ratio(loads, reference, seed=seed, min_half_width=SHORT_MIN_HALF_WIDTH)
    medians = [float(np.median(np.concatenate([load.ns for load in own]))) for own in (loads, reference)]
    distance = math.log(medians[0] / medians[1] / value)
    below, above = (math.hypot(math.log(bound / value), math.sqrt(2) * distance) for bound in (low, high))
    return value, value * math.exp(-below), value * math.exp(above)


@dataclass(frozen=True, kw_only=True)
class _Undisturbed:
    """An exported model's bursts by rising time.

    burst_ns: (bursts,), the first decile of each burst's calls. window: (bursts,), the place of its window.
    """

    burst_ns: Floats
    window: npt.NDArray[np.int64]

    @classmethod
    def of(cls, loads: Sequence[Load]) -> _Undisturbed:
        places = windows(loads)
        by_load = [[np.quantile(burst, UNDISTURBED_QUANTILE) for burst in _split(load)] for load in loads]
        burst_ns = np.concatenate(by_load)
        window = np.repeat([places.index(load.window) for load in loads], [len(one) for one in by_load])
        order = np.argsort(burst_ns, kind="stable")
        return cls(burst_ns=burst_ns[order], window=window[order])

    def ns(self, ways: npt.NDArray[np.int64]) -> Floats:
        """The first decile of all bursts, where each window counts `ways` times: (ways, windows) -> (ways,)."""
        counted = np.cumsum(ways[:, self.window], axis=1)
        return np.asarray(self.burst_ns[(counted >= UNDISTURBED_QUANTILE * counted[:, -1:]).argmax(axis=1)])


def _split(load: Load) -> list[Nanoseconds]:
    return np.split(load.ns, np.cumsum(load.bursts)[:-1])
