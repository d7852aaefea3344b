"""The results of a session from its raw times: percentiles, intervals, validity, and their names in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from pipelines.device.answers import Agreement
from pipelines.device.raw import Consumption, Raw
from pipelines.device.settings import Settings
from pipelines.device.subjects import Subject, name_of
from pipelines.litert.delegation import delegation
from pipelines.litert.latency import Load, Nanoseconds, Percentiles, ratio, windows
from pipelines.results.cell_result import Delegation
from pipelines.results.on_device import AGREEMENT, AGREEMENT_CHANGED, LITERT, P50, RATIO, VALID, by_threads
from pipelines.results.statistics import repeat_interval
from pipelines.system.digests import sha256
from pipelines.system.words import number_of

# Tolerance between the largest and the smallest median of the windows (docs/reference/measurement.md).
WINDOW_TOLERANCE = 0.10
# In the reason of a session that ended before it had its calls.
LIMIT = "within limit="


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Single-stream latency with one number of threads.

    p50_low_ms to p50_high_ms, ratio_low to ratio_high: 95% prediction interval of a repeated session. ratio:
    undisturbed time over the reference's, below 1 if faster; None without a reference. p99_ms: None for fewer than 662
    calls. windows_ms: each window's median. invalid: why the figures do not count, a sentence each.
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
class DeviceResult:
    """All results of a session on one exported model and one runtime.

    runtime, version, precision: what it ran on, and what that computed in. load_ms, first_call_ms: medians over fresh
    processes with one thread. peak_memory_mb: their maximum, in 10^6 bytes. latency, consumption: by number of threads.
    images_per_s: by batch, with `throughput_threads`. refused: by batch, why it could not be measured. delegation:
    which part of it this device's LiteRT accelerates; None on other runtimes. agreement: of its answers with those of
    LiteRT; None in a session of LiteRT alone.
    """

    label: str
    runtime: str
    version: str
    precision: str
    sha256: str
    file_bytes: int
    runs: tuple[str, ...]
    reference: tuple[str, str] | None
    load_ms: float
    first_call_ms: float
    peak_memory_mb: float
    latency: dict[int, Latency]
    throughput_threads: int
    images_per_s: dict[int, float]
    refused: dict[int, str]
    consumption: dict[int, Consumption]
    delegation: Delegation | None
    agreement: Agreement | None

    @property
    def name(self) -> str:
        """As `Subject.name`."""
        return name_of(self.label, self.runtime)

    @property
    def invalid(self) -> tuple[str, ...]:
        """Why the figures do not count, a sentence each; empty where they do."""
        of_times = (
            f"{number_of(threads, 'thread')}: {why}" for threads, one in self.latency.items() for why in one.invalid
        )
        return (*of_times, *(self.agreement.invalid if self.agreement else ()))

    def metrics(self) -> dict[str, float]:
        """All numbers by their name below `measure/<target>/<runtime>/`; a value that does not exist is absent."""
        found: dict[str, float | None] = {
            VALID: float(not self.invalid),
            "load_ms": self.load_ms,
            "first_call_ms": self.first_call_ms,
            "peak_memory_mb": self.peak_memory_mb,
        }
        if self.delegation is not None:
            found["delegate_partitions"] = self.delegation.partitions
            found["undelegated_operators"] = sum(self.delegation.undelegated.values())
        if self.agreement is not None:
            found |= {
                AGREEMENT: self.agreement.same,
                AGREEMENT_CHANGED: self.agreement.changed,
                "agreement_largest": self.agreement.largest,
                "agreement_images": float(self.agreement.images),
                "accuracy": self.agreement.accuracy,
            }
        for threads, one in self.latency.items():
            values = asdict(one)
            named = (*P50, "p90_ms", "p99_ms", *RATIO, "calls")
            found |= {by_threads(name, threads): values[name] for name in named}
            found[by_threads(VALID, threads)] = float(not one.invalid)
        for batch, rate in self.images_per_s.items():
            found[by_threads(f"images_per_s_b{batch}", self.throughput_threads)] = rate
        for threads, used in self.consumption.items():
            found |= {by_threads(f"energy_{name}_mj", threads): mj for name, mj in used.mj_per_image.items()}
        return {name: value for name, value in found.items() if value is not None}


def summarize(
    subjects: Sequence[Subject], raws: Sequence[Raw], settings: Settings, *, cut: str = ""
) -> list[DeviceResult]:
    """One record for each subject, in their order. cut: as of `Measured`, which is why times do not count then."""
    if cut:
        settings = replace(settings, min_duration_s=0.0, min_calls=1)
    by_key = {subject.key: raw for subject, raw in zip(subjects, raws, strict=True)}
    changed = {subject.key for subject in subjects if _has_changed(subject)}
    found = []
    for subject, raw in zip(subjects, raws, strict=True):
        result = _result(subject, raw, by_key, settings)
        if subject.runtime == LITERT and subject.key not in changed:
            result = replace(result, delegation=delegation(subject.path))
        names = [name_of(*key) for key in (subject.key, subject.reference) if key in changed]
        reasons = [f"the file of {name} changed meanwhile: measure again" for name in names]
        found.append(_with_reasons(result, [cut, *reasons] if cut else reasons))
    return found


def _has_changed(subject: Subject) -> bool:
    """Whether the file is another one than at the beginning of the session, or lost."""
    try:
        return sha256(subject.path) != subject.sha256
    except OSError:
        return True


def _with_reasons(result: DeviceResult, reasons: Sequence[str]) -> DeviceResult:
    """A record whose times do not count for further reasons."""
    times = {threads: replace(one, invalid=(*one.invalid, *reasons)) for threads, one in result.latency.items()}
    return replace(result, latency=times)


def latency(loads: Sequence[Load], reference: Sequence[Load] | None, settings: Settings) -> Latency:
    """Percentiles over all counted calls, with prediction intervals of a repeated session."""
    ns = np.concatenate([load.ns for load in loads])
    times, own = Percentiles.of(ns), p50_ms(loads, seed=settings.seed)
    compared = ratio(loads, reference, seed=settings.seed) if reference is not None else (None, None, None)
    medians = medians_ms(loads)
    return Latency(
        calls=len(ns),
        seconds=float(ns.sum()) / 1e9,
        p50_ms=own[0],
        p50_low_ms=own[1],
        p50_high_ms=own[2],
        p90_ms=times.p90_ms,
        p99_ms=times.p99_ms,
        ratio=compared[0],
        ratio_low=compared[1],
        ratio_high=compared[2],
        windows_ms=tuple(medians),
        invalid=invalid(ns, medians, settings),
    )


def p50_ms(loads: Sequence[Load], *, seed: int) -> tuple[float, float, float]:
    """The median of all calls, with the prediction interval of a repeated session's."""
    low, high = repeat_interval(np.log(medians_ms(loads)), seed=seed)
    median = float(np.median(np.concatenate([load.ns for load in loads]))) / 1e6
    return median, median * float(np.exp(low)), median * float(np.exp(high))


def medians_ms(loads: Sequence[Load]) -> list[float]:
    """The median of each window's calls."""
    by_window = [np.concatenate([load.ns for load in loads if load.window == one]) for one in windows(loads)]
    return [float(np.median(ns)) / 1e6 for ns in by_window]


def disagree(medians_ms: Sequence[float]) -> bool:
    """Whether the medians of the windows differ by more than the tolerance."""
    return max(medians_ms) > min(medians_ms) * (1 + WINDOW_TOLERANCE)


def invalid(ns: Nanoseconds, medians_ms: Sequence[float], settings: Settings) -> tuple[str, ...]:
    """Why latencies do not count: missed minimums, and windows that disagree."""
    why = []
    timed_s, limit = float(ns.sum()) / 1e9, f"{LIMIT}{settings.limit_s:g} s"
    if timed_s < settings.min_duration_s:
        why.append(f"{settings.min_duration_s:g} s must be timed, got {timed_s:.2f} s {limit}")
    if len(ns) < settings.min_calls:
        why.append(f"{settings.min_calls} calls must be timed, got {len(ns)} {limit}")
    if disagree(medians_ms):
        why.append(
            f"the medians of {len(medians_ms)} windows must agree within {WINDOW_TOLERANCE:.0%}, got "
            f"{min(medians_ms):.4g} to {max(medians_ms):.4g} ms"
        )
    return tuple(why)


def _result(subject: Subject, raw: Raw, by_key: Mapping[tuple[str, str], Raw], settings: Settings) -> DeviceResult:
    reference = by_key[subject.reference].latency if subject.reference else {}
    return DeviceResult(
        label=subject.label,
        runtime=subject.runtime,
        version=raw.version,
        precision=raw.precision,
        sha256=subject.sha256,
        file_bytes=subject.file_bytes,
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
        delegation=None,
        agreement=raw.agreement,
    )


def _rate(loads: Sequence[Load], batch: int) -> float:
    calls, ns = sum(len(load.ns) for load in loads), sum(int(load.ns.sum()) for load in loads)
    return batch * calls / (ns / 1e9)
