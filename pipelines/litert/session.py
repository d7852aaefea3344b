"""The measurement of a cell: ask the child process, check its answer, summarize it."""

import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert import process
from pipelines.litert.accuracy import accuracy, confusion_matrix, top_k_accuracy
from pipelines.litert.latency import Percentiles, loads_of, short_ratio
from pipelines.litert.size import compressed_bytes
from pipelines.system import checks, machine, mapped

# A disk with less free space counts as full.
FULL_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of latency; `conf/measurement/*.yaml` explains each field."""

    threads: int
    warmup_calls: int
    min_duration_s: float
    min_calls: int
    # One that was not stopped is the same with any limit.
    timeout_s: float = field(metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        checks.integer("measurement.threads", self.threads, minimum=1)
        checks.integer("measurement.warmup_calls", self.warmup_calls, minimum=0)
        checks.number("measurement.min_duration_s", self.min_duration_s, minimum=0)
        checks.integer("measurement.min_calls", self.min_calls, minimum=1)
        checks.number("measurement.timeout_s", self.timeout_s, exclusive_minimum=0)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to the child. Paths are absolute. images: the file region of the test images."""

    exported_model: str
    reference: str | None
    images: mapped.Region
    settings: Settings
    seed: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """The measurement of one exported model; fields of the reference are None where none was timed.

    images_per_s: over all cores and the whole test split. Latencies are of single images. ratio: the candidate's
    undisturbed time over the reference's, below 1 if the candidate is faster. ratio_low to ratio_high: 95% prediction
    interval of a repeated measurement. p99_ms: None where there are too few calls (`latency.P99_CALLS`).
    """

    logits: npt.NDArray[np.float32]
    correct: int
    accuracy: float
    top5_accuracy: float
    confusion: npt.NDArray[np.int64]
    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    reference_p50_ms: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    load_ms: float
    first_call_ms: float
    images_per_s: float
    file_bytes: int
    compressed_bytes: int


def measure(
    exported_model: Path,
    *,
    reference: Path | None,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer[Any]],
    settings: Settings,
    seed: int,
    folder: Path,
) -> Result:
    """Accuracy, latency and size of an exported model, its latency interleaved with the reference's.

    images: uint8 (n, h, w, 3); labels: integers (n,). A reference that is the exported model itself is not timed.
    `folder` receives `predictions.npz` (logits, labels) and `latency.npz` (candidate, reference: nanoseconds of all
    counted calls; candidate_bursts, reference_bursts: calls in each burst; rounds: bursts in each window).

    Raises ValueError for a missing file, invalid images or labels, and logits that are not finite; RuntimeError if the
    child process leaves no result.
    """
    _check(exported_model, reference, images, labels)
    if reference is not None and reference.samefile(exported_model):
        reference = None
    found = _ask_child(exported_model, reference, images, settings, seed)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "predictions.npz", allow_pickle=False, logits=found["logits"], labels=labels.astype(np.int64))
    timed = {"candidate": found["latency_ns"], "candidate_bursts": found["bursts"]}
    if "reference_latency_ns" in found:
        timed |= {"reference": found["reference_latency_ns"], "reference_bursts": found["reference_bursts"]}
    np.savez(folder / "latency.npz", allow_pickle=False, **timed, rounds=found["rounds"])
    return _summary(exported_model, found, labels, seed)


def _check(
    exported_model: Path,
    reference: Path | None,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.integer[Any]],
) -> None:
    for path in (exported_model, reference):
        if path is not None and not path.is_file():
            raise ValueError(f"{path} must be a .tflite file, got no such file: export the exported model first")
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) == 0 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"images must be uint8 (n, h, w, 3) with one label each, got {images.dtype} {images.shape} and "
            f"labels {labels.shape}: pass a dataset's test split"
        )


def _ask_child(
    exported_model: Path, reference: Path | None, images: npt.NDArray[np.uint8], settings: Settings, seed: int
) -> dict[str, npt.NDArray[Any]]:
    with tempfile.TemporaryDirectory(prefix="measure-") as scratch:
        folder = Path(scratch)
        try:
            request = Request(
                exported_model=str(exported_model.resolve()),
                reference=None if reference is None else str(reference.resolve()),
                images=mapped.in_file(images, folder / "images.npy"),
                settings=settings,
                seed=seed,
            )
            return process.ask(
                "pipelines.litert.child",
                request,
                folder,
                timeout_s=settings.timeout_s,
                limit="measurement.timeout_s",
            )
        except (RuntimeError, OSError) as error:
            raise RuntimeError(f"measuring {exported_model} failed: {error}{_full(folder)}") from error


def _full(folder: Path) -> str:
    """A note that the disk of a temporary folder is full, else empty: a child that cannot write does not report it."""
    if shutil.disk_usage(folder).free >= FULL_BYTES:
        return ""
    free = machine.free_space(folder)
    return f"; {free}, where the temporary folder {folder} is: free some, or set TMPDIR to a folder on another disk"


def _summary(
    exported_model: Path, found: dict[str, npt.NDArray[Any]], labels: npt.NDArray[np.integer[Any]], seed: int
) -> Result:
    logits, latency_ns = found["logits"], found["latency_ns"]
    reference_ns = found.get("reference_latency_ns")
    times = Percentiles.of(latency_ns)
    reference_p50_ms = ratio = low = high = None
    if reference_ns is not None:
        reference_p50_ms = Percentiles.of(reference_ns).p50_ms
        rounds = found["rounds"]
        own = loads_of(latency_ns, found["bursts"], rounds)
        ratio, low, high = short_ratio(own, loads_of(reference_ns, found["reference_bursts"], rounds), seed=seed)
    confusion = confusion_matrix(logits, labels, logits.shape[1])
    return Result(
        logits=logits,
        correct=int(confusion.trace()),
        accuracy=accuracy(logits, labels),
        top5_accuracy=top_k_accuracy(logits, labels),
        confusion=confusion,
        **asdict(times),
        reference_p50_ms=reference_p50_ms,
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        load_ms=float(found["load_ms"]),
        first_call_ms=float(found["first_call_ms"]),
        images_per_s=float(found["images_per_s"]),
        file_bytes=exported_model.stat().st_size,
        compressed_bytes=compressed_bytes(exported_model),
    )
