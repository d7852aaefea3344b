"""From what was timed to what is said: percentiles, intervals, validity, and their names in MLflow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from pipelines.device.session import Consumption, Load, Raw
from pipelines.device.settings import Settings
from pipelines.device.subjects import Subject
from pipelines.litert.latency import Nanoseconds, Percentiles
from pipelines.results.statistics import repeat_interval, resamples

Floats = npt.NDArray[np.float64]

# Fewer calls say nothing about a 99th percentile; why 662: conf/measurement/thorough.yaml.
P99_CALLS = 662
# Of the largest to the smallest median of the windows; docs/measuring.md has the evidence.
WINDOW_TOLERANCE = 0.10
# Of a burst's calls, and of an exported model's bursts, this quickest share ran undisturbed by other programs.
UNDISTURBED_QUANTILE = 0.1
# By how much two sessions' ratios may differ without either of them showing it.
UNSEEN = 0.01


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Single-stream latency with one number of threads.

    p50_low to p50_high, ratio_low to ratio_high: where a repeat of the session lands, 95%. ratio: to the reference
    where both are left alone, below 1 if faster; None without one. p99_ms: None of fewer than 662 calls. windows_ms:
    each window's median. invalid: why the figures do not count, a sentence each.
    """

    calls: int
    seconds: float
    p50_ms: float
    p50_low_ms: float
    p50_high_ms: float
    p90_ms: float
    p99_ms: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    windows_ms: tuple[float, ...]
    invalid: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that a session found out about one artifact.

    load_ms, first_call_ms: medians over fresh processes with one thread; peak_memory_mb: the most of them, in 10^6
    bytes. latency: by threads. images_per_s: by batch, with `throughput_threads`; refused: why there is none.
    consumption: by threads.
    """

    label: str
    sha256: str
    file_bytes: int
    runs: tuple[str, ...]
    reference: str | None
    load_ms: float
    first_call_ms: float
    peak_memory_mb: float
    latency: dict[int, Latency]
    throughput_threads: int
    images_per_s: dict[int, float]
    refused: dict[int, str]
    consumption: dict[int, Consumption]

    @property
    def invalid(self) -> tuple[str, ...]:
        """Why the figures do not count, a sentence each; empty where they do."""
        return tuple(f"{threads} threads: {why}" for threads, one in self.latency.items() for why in one.invalid)

    def metrics(self) -> dict[str, float]:
        """All numbers by their name below `measure/<target>/`; what does not exist is absent."""
        found: dict[str, float | None] = {
            "valid": float(not self.invalid),
            "load_ms": self.load_ms,
            "first_call_ms": self.first_call_ms,
            "peak_memory_mb": self.peak_memory_mb,
        }
        for threads, one in self.latency.items():
            values = asdict(one)
            named = ("p50_ms", "p50_low_ms", "p50_high_ms", "p90_ms", "p99_ms", "ratio", "ratio_low", "ratio_high")
            found |= {f"{name}_{threads}t": values[name] for name in (*named, "calls")}
        for batch, rate in self.images_per_s.items():
            found[f"images_per_s_b{batch}_{self.throughput_threads}t"] = rate
        for threads, used in self.consumption.items():
            found |= {f"energy_{name}_mj_{threads}t": mj for name, mj in used.mj_per_image.items()}
        return {name: value for name, value in found.items() if value is not None}


def summarized(subjects: Sequence[Subject], raws: Sequence[Raw], settings: Settings) -> list[Measured]:
    """One record for each subject, in their order."""
    by_label = {subject.label: raw for subject, raw in zip(subjects, raws, strict=True)}
    return [_measured(subject, raw, by_label, settings) for subject, raw in zip(subjects, raws, strict=True)]


def latency(loads: Sequence[Load], reference: Sequence[Load] | None, settings: Settings) -> Latency:
    """Percentiles over all counted calls, with the intervals of where a repeat lands."""
    ns = np.concatenate([load.ns for load in loads])
    times, own = Percentiles.of(ns), p50_ms(loads, seed=settings.seed)
    beside = ratio(loads, reference, seed=settings.seed) if reference is not None else (None, None, None)
    medians = medians_ms(loads)
    return Latency(
        calls=len(ns),
        seconds=float(ns.sum()) / 1e9,
        p50_ms=own[0],
        p50_low_ms=own[1],
        p50_high_ms=own[2],
        p90_ms=times.p90_ms,
        p99_ms=times.p99_ms if len(ns) >= P99_CALLS else None,
        ratio=beside[0],
        ratio_low=beside[1],
        ratio_high=beside[2],
        windows_ms=tuple(medians),
        invalid=invalid(ns, medians, settings),
    )


def p50_ms(loads: Sequence[Load], *, seed: int) -> tuple[float, float, float]:
    """The median of all calls, and the bounds of a repeat's."""
    low, high = repeat_interval(np.log(medians_ms(loads)), seed=seed)
    median = float(np.median(np.concatenate([load.ns for load in loads]))) / 1e6
    return median, median * float(np.exp(low)), median * float(np.exp(high))


def medians_ms(loads: Sequence[Load]) -> list[float]:
    """The median of each window's calls."""
    by_window = [np.concatenate([load.ns for load in loads if load.window == one]) for one in _windows(loads)]
    return [float(np.median(ns)) / 1e6 for ns in by_window]


def ratio(loads: Sequence[Load], reference: Sequence[Load], *, seed: int) -> tuple[float, float, float]:
    """The exported model's time to its reference's where both are left alone, and the bounds of a repeat's.

    What shares the machine slows one exported model by more than another, in one session and not in the next, and so
    changes a ratio of medians; what an exported model takes when left alone is the same in both
    (docs/measuring.md). The bounds are no nearer than `UNSEEN`.
    """
    drawn = resamples(len(_windows(loads)), seed=seed)
    own, other = _Undisturbed.of(loads), _Undisturbed.of(reference)
    low, high = drawn.interval(np.log(own.ns(drawn.ways) / other.ns(drawn.ways)))
    low, high = min(low, math.log1p(-UNSEEN)), max(high, math.log1p(UNSEEN))
    once = np.ones_like(drawn.ways[:1])
    value = float((own.ns(once) / other.ns(once)).item())
    return value, value * math.exp(low), value * math.exp(high)


@dataclass(frozen=True, kw_only=True)
class _Undisturbed:
    """What an exported model's bursts take when it is left alone, from the quickest on.

    burst_ns: (bursts,), each burst at the first decile of its calls. window: (bursts,), the place of its window.
    """

    burst_ns: Floats
    window: npt.NDArray[np.int64]

    @classmethod
    def of(cls, loads: Sequence[Load]) -> _Undisturbed:
        windows = _windows(loads)
        by_load = [[np.quantile(burst, UNDISTURBED_QUANTILE) for burst in _split(load)] for load in loads]
        burst_ns = np.concatenate(by_load)
        window = np.repeat([windows.index(load.window) for load in loads], [len(one) for one in by_load])
        order = np.argsort(burst_ns, kind="stable")
        return cls(burst_ns=burst_ns[order], window=window[order])

    def ns(self, ways: npt.NDArray[np.int64]) -> Floats:
        """(ways, windows) -> (ways,): the first decile of all bursts, each window's counted as often as it says."""
        counted = np.cumsum(ways[:, self.window], axis=1)
        return np.asarray(self.burst_ns[(counted >= UNDISTURBED_QUANTILE * counted[:, -1:]).argmax(axis=1)])


def invalid(ns: Nanoseconds, medians_ms: Sequence[float], settings: Settings) -> tuple[str, ...]:
    """Why latencies do not count: minimums that were missed, windows that disagree."""
    why = []
    timed_s, limit = float(ns.sum()) / 1e9, f"within limit={settings.limit_s:g} s"
    if timed_s < settings.min_duration_s:
        why.append(f"{settings.min_duration_s:g} s must be timed, got {timed_s:.2f} s {limit}")
    if len(ns) < settings.min_calls:
        why.append(f"{settings.min_calls} calls must be timed, got {len(ns)} {limit}")
    if max(medians_ms) > min(medians_ms) * (1 + WINDOW_TOLERANCE):
        why.append(
            f"the medians of {len(medians_ms)} windows must agree within {WINDOW_TOLERANCE:.0%}, got "
            f"{min(medians_ms):.4g} to {max(medians_ms):.4g} ms"
        )
    return tuple(why)


def _measured(subject: Subject, raw: Raw, by_label: dict[str, Raw], settings: Settings) -> Measured:
    reference = by_label[subject.reference].latency if subject.reference else {}
    return Measured(
        label=subject.label,
        sha256=subject.sha256,
        file_bytes=subject.path.stat().st_size,
        runs=subject.runs,
        reference=subject.reference,
        load_ms=float(np.median([start.load_ms for start in raw.starts])),
        first_call_ms=float(np.median([start.first_call_ms for start in raw.starts])),
        peak_memory_mb=max(start.peak_bytes for start in raw.starts) / 1e6,
        latency={threads: latency(loads, reference.get(threads), settings) for threads, loads in raw.latency.items()},
        throughput_threads=max(settings.threads),
        images_per_s={batch: _rate(loads, batch) for batch, loads in raw.throughput.items()},
        refused=raw.refused,
        consumption=raw.consumption,
    )


def _windows(loads: Sequence[Load]) -> list[int]:
    return sorted({load.window for load in loads})


def _split(load: Load) -> list[Nanoseconds]:
    return np.split(load.ns, np.cumsum(load.bursts)[:-1])


def _rate(loads: Sequence[Load], batch: int) -> float:
    calls, ns = sum(len(load.ns) for load in loads), sum(int(load.ns.sum()) for load in loads)
    return batch * calls / (ns / 1e9)
