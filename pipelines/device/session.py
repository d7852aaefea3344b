"""One session: all exported models measured in turns, in fresh processes that load NumPy and a runtime only."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from pipelines.device.answers import AnswersRequest, compared
from pipelines.device.consumption import ConsumptionRequest
from pipelines.device.raw import Consumption, Raw, Start
from pipelines.device.schedule import Pass, estimate_s, loads_in_window, minutes, order_of, passes_of
from pipelines.device.settings import Settings
from pipelines.device.start import StartRequest
from pipelines.device.stream import StreamRequest
from pipelines.device.subjects import Subject
from pipelines.litert import process
from pipelines.litert.latency import Load
from pipelines.litert.process import Arrays
from pipelines.litert.stream import random_images
from pipelines.results.on_device import LITERT
from pipelines.system import energy, machine
from pipelines.system.words import one_line

Report = Callable[[str], None]

START_CALLS = 10
# Time for loading, warming up and the last round, in addition to the limit.
GRACE_S = 600.0
# So many complete windows are kept, if one after them fails. Fewer have no interval to speak of.
MIN_WINDOWS = 3
# Random images for comparing answers take at most so many bytes.
MAX_BYTES = 2**28


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The subjects that were measured, with their raw times, and a sentence for each that could not be loaded.

    cut: why the session has fewer windows than it should; empty where it has all.
    """

    subjects: list[Subject]
    raws: list[Raw]
    left_out: list[str]
    cut: str = ""


@dataclass(frozen=True, kw_only=True)
class Images:
    """Real images of the model's dataset: uint8 (n, h, w, 3), and labels (n,). digest: SHA-256 of both."""

    pixels: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    digest: str


def run(
    subjects: Sequence[Subject],
    settings: Settings,
    *,
    report: Report,
    images: Mapping[str, Images] = MappingProxyType({}),
) -> Measured:
    """Measure all subjects that their runtimes take, without those that end the process which loads them.

    images: real ones, by the subject's label, for comparing answers; others get random pixels. Raises RuntimeError with
    one sentence if a process fails, or a runtime refuses what others are compared with or all there is, MemoryError if
    the exported models do not fit into memory together.
    """
    subjects, raws, left_out = _started(subjects, settings, report)
    check_memory(subjects, raws)
    raws = _agreed(subjects, raws, settings, images, report)
    passes = passes_of(settings)
    left_s = estimate_s(raws, settings)
    report(f"start-up and memory are measured, the rest takes about {minutes(left_s)}")
    began = time.monotonic()
    for number, one in enumerate(passes, start=1):
        try:
            if one.batch == 1:
                _stream(one, number, subjects, raws, settings)
            else:
                _stream_batches(one, number, subjects, raws, settings, report=report)
        except (RuntimeError, OSError) as error:
            if one.window < MIN_WINDOWS:
                raise
            _forget(raws, one.window)
            return Measured(
                subjects=subjects,
                raws=raws,
                left_out=left_out,
                cut=f"{one.window} of {settings.windows} windows were measured: {error}",
            )
        if number == len(passes) or one.window != passes[number].window:
            left_s = (time.monotonic() - began) * (len(passes) / number - 1)
            after = f", about {minutes(left_s)} left" if number < len(passes) else ""
            report(f"window {one.window + 1} of {settings.windows}{after}")
    if energy.is_available():
        report("energy")
        for threads in settings.threads:
            for subject, raw in zip(subjects, raws, strict=True):
                try:
                    raw.consumption[threads] = _consumption(subject, threads, settings)
                except (RuntimeError, OSError) as error:
                    report(f"no energy of {subject.name} is measured: {error}")
    return Measured(subjects=subjects, raws=raws, left_out=left_out)


def _started(
    subjects: Sequence[Subject], settings: Settings, report: Report
) -> tuple[list[Subject], list[Raw], list[str]]:
    """Those that their runtimes take, with their starts, and a sentence for each of the others."""
    taken, raws, left_out = [], [], []
    references = {subject.reference for subject in subjects}
    for subject in subjects:
        needed = subject.key in references or len(subjects) == 1
        try:
            found = _starts(subject, settings)
        except RuntimeError as error:
            # It has ended the process that loaded it, or takes too long.
            if needed:
                raise
            found = one_line(error)
        if isinstance(found, Raw):
            taken.append(subject)
            raws.append(found)
        elif needed:
            raise RuntimeError(f"measuring {subject.name} failed: {found}")
        else:
            left_out.append(f"{subject.name} is left out: {found}")
            report(left_out[-1])
    if not taken:
        raise RuntimeError(f"no model can be measured: {left_out[0]}")
    return taken, raws, left_out


def _agreed(
    subjects: Sequence[Subject], raws: Sequence[Raw], settings: Settings, images: Mapping[str, Images], report: Report
) -> list[Raw]:
    """With the agreement of each runtime with LiteRT; as they are if there is no other runtime."""
    if not settings.compares_answers:
        return list(raws)
    calls_s = [settings.answers * float(np.median([start.call_ms for start in raw.starts])) / 1e3 for raw in raws]
    report(f"comparing answers, which takes about {minutes(sum(calls_s))}")
    expected: dict[str, npt.NDArray[np.float32] | None] = {}
    agreed = []
    # LiteRT may be slower than the runtime whose calls are known.
    limit_s = 10 * max(calls_s) + GRACE_S
    for subject, raw in zip(subjects, raws, strict=True):
        real = images.get(subject.label)
        fitting = min(settings.answers, MAX_BYTES // math.prod(subject.image_shape))
        # The same ones in every session: a runtime near the limit is valid or INVALID in all of them.
        pixels = real.pixels[: settings.answers] if real else random_images(subject.image_shape, fitting, seed=0)
        if subject.label not in expected:
            expected[subject.label] = _of_litert(subject, pixels, limit_s, report)
        first = expected[subject.label]
        if first is None:
            agreed.append(raw)
            continue
        logits = first if subject.runtime == LITERT else _logits(subject, pixels, limit_s)
        labels = real.labels[: settings.answers] if real else None
        agreed.append(replace(raw, agreement=compared(logits, first, labels)))
    return agreed


def _of_litert(
    subject: Subject, images: npt.NDArray[np.uint8], limit_s: float, report: Report
) -> npt.NDArray[np.float32] | None:
    """The logits that LiteRT gives; None where it does not take the model, which other runtimes may."""
    try:
        return _logits(replace(subject, runtime=LITERT), images, limit_s)
    except RuntimeError as error:
        report(f"the answers of {subject.label} are compared with nothing, as LiteRT gives none: {error}")
        return None


def _logits(subject: Subject, images: npt.NDArray[np.uint8], limit_s: float) -> npt.NDArray[np.float32]:
    with _exchange(subject.name) as folder:
        np.save(folder / "images.npy", images, allow_pickle=False)
        request = AnswersRequest(
            exported_model=str(subject.path),
            runtime=subject.runtime,
            images=str(folder / "images.npy"),
        )
        return process.ask("pipelines.device.answers", request, folder, timeout_s=limit_s)["logits"]


def check_memory(subjects: Sequence[Subject], raws: Sequence[Raw]) -> None:
    """Raise MemoryError if the exported models, which take turns in one process, do not fit into memory together."""
    needed = sum(max(start.peak_bytes for start in raw.starts) for raw in raws)
    free = machine.free_memory()
    if needed > free:
        raise MemoryError(
            f"the {len(subjects)} exported models must fit into memory together, got {needed / 1e6:.0f} MB with "
            f"{free / 1e6:.0f} MB free: measure fewer at a time, with filter= or as files"
        )


def _starts(subject: Subject, settings: Settings) -> Raw | str:
    """Raw times with the starts alone, or why the runtime does not take the model."""
    starts = []
    for _ in range(settings.starts):
        with _exchange(subject.name) as folder:
            image = folder / "image.npy"
            np.save(image, random_images(subject.image_shape, 1, settings.seed)[0], allow_pickle=False)
            request = StartRequest(
                exported_model=str(subject.path),
                runtime=subject.runtime,
                image=str(image),
                threads=1,
                calls=START_CALLS,
            )
            found = process.ask("pipelines.device.start", request, folder, timeout_s=GRACE_S)
        if "refused" in found:
            return str(found["refused"])
        times = {name: float(found[name]) for name in ("load_ms", "first_call_ms", "call_ms")}
        starts.append(Start(**times, peak_bytes=int(found["peak_bytes"])))
    return Raw(version=str(found["version"]), precision=str(found["precision"]), starts=starts)


def _consumption(subject: Subject, threads: int, settings: Settings) -> Consumption:
    with _exchange(subject.name) as folder:
        request = ConsumptionRequest(
            exported_model=str(subject.path),
            runtime=subject.runtime,
            threads=threads,
            warmup_calls=settings.warmup_calls,
            duration_s=settings.min_duration_s / 4,
            seed=settings.seed,
        )
        found = process.ask("pipelines.device.consumption", request, folder, timeout_s=GRACE_S)
    images = int(found.pop("images"))
    return Consumption(images=images, joules={name: float(value) for name, value in found.items()})


def _stream_batches(
    one: Pass, number: int, subjects: Sequence[Subject], raws: Sequence[Raw], settings: Settings, *, report: Report
) -> None:
    """`_stream` for a batch. Where its process fails, for want of memory or time, the session has no such figures."""
    if all(one.batch in raw.refused for raw in raws):
        return
    try:
        _stream(one, number, subjects, raws, settings)
    except RuntimeError as error:
        report(f"no batches of {one.batch} are measured: {error}")
        for raw in raws:
            raw.throughput.pop(one.batch, None)
            raw.refused[one.batch] = f"{error} (--batches none leaves batches out)"


def _stream(one: Pass, number: int, subjects: Sequence[Subject], raws: Sequence[Raw], settings: Settings) -> None:
    """Add the times of one process, in which all exported models take turns, to `raws`."""
    single = one.batch == 1
    parts = settings.windows * loads_in_window(settings, one.batch)
    limit_s = settings.limit_s * len(subjects) / parts
    with _exchange(", ".join(subject.name for subject in subjects)) as folder:
        request = StreamRequest(
            exported_models=tuple(str(subject.path) for subject in subjects),
            runtimes=tuple(subject.runtime for subject in subjects),
            order=order_of(len(subjects), one.before, parts, settings.seed),
            threads=one.threads,
            batch=one.batch,
            warmup_calls=settings.warmup_calls if single else 1,
            min_duration_s=settings.min_duration_s / parts / (1 if single else 4),
            min_calls=-(-settings.min_calls // parts) if single else 1,
            limit_s=limit_s,
            seed=settings.seed + number,
        )
        found = process.ask("pipelines.device.stream", request, folder, timeout_s=4 * limit_s + GRACE_S)
    for place, raw in enumerate(raws):
        _add(raw, one, found, place)


def _forget(raws: Sequence[Raw], window: int) -> None:
    """Take out the times of an incomplete window."""
    for raw in raws:
        for times in (raw.latency, raw.throughput):
            for key, loads in [*times.items()]:
                times[key] = [load for load in loads if load.window != window]


def _add(raw: Raw, one: Pass, found: Arrays, place: int) -> None:
    if one.batch in raw.refused:
        return
    if f"refused_{place}" in found:
        raw.refused[one.batch] = str(found[f"refused_{place}"])
        raw.throughput.pop(one.batch, None)
        return
    load = Load(window=one.window, ns=found[f"ns_{place}"], bursts=found[f"bursts_{place}"])
    if one.batch == 1:
        raw.latency.setdefault(one.threads, []).append(load)
    else:
        raw.throughput.setdefault(one.batch, []).append(load)


@contextmanager
def _exchange(what: str) -> Iterator[Path]:
    """An empty folder for request and answer; the error of a failed process names what it measured."""
    with tempfile.TemporaryDirectory(prefix="measure-") as scratch:
        try:
            yield Path(scratch)
        except RuntimeError as error:
            raise RuntimeError(f"measuring {what} failed: {error}") from error
