"""The subprocess that measures a cell: `python -m pipelines.litert.child REQUEST.json`.

It loads only numpy and LiteRT, so that no threads or memory of a training library disturb the measurement.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.process import Arrays, in_copy, serve
from pipelines.litert.session import Request, Settings
from pipelines.litert.start import start_up
from pipelines.litert.stream import in_turn, time_bursts
from pipelines.system.machine import cores, free_memory
from pipelines.system.mapped import Region, blocks, sample

# Each in a process of its own. Five give 4 degrees of freedom; more would cost more loads and warm-up calls.
WINDOWS = 5
# Of a loaded model beside its weights, for its activations.
MODEL_BYTES = 50_000_000


def measurements(request: Request) -> dict[str, Any]:
    """Separate passes: `load_ms`, `first_call_ms`, `images_per_s`, `logits` float32 (n, classes), and `timed_windows`.

    Start-up and windows have a copy of this process each, made before it has loaded a model itself.
    """
    images = request.images.mapped()
    # No timed call may wait for a disk. A test split is in random order: its first images are a fair sample.
    in_memory = sample(images)
    path, threads = Path(request.exported_model), request.settings.threads
    load_ms, first_call_ms = in_copy("start-up", started_in_ms, path, threads, in_memory[0])
    timed = timed_windows(request, in_memory)
    logits, images_per_s = answer_all(path, images)
    return {"load_ms": load_ms, "first_call_ms": first_call_ms, "images_per_s": images_per_s, "logits": logits} | timed


def started_in_ms(path: Path, threads: int, image: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """Milliseconds of loading and of the first call. Only they are kept: the loaded model's memory is freed."""
    return start_up(lambda: ExportedModel(path, threads), image)[1:]


def timed_windows(request: Request, images: npt.NDArray[np.uint8]) -> Arrays:
    """The calls of the exported model and, if there is one, of the reference, in turns, in all windows.

    `latency_ns`, `reference_latency_ns`: int64 (calls,). `bursts`, `reference_bursts`: calls in each burst. `rounds`:
    (windows,), bursts of each model in each window.

    The placement of its memory makes one load of a file up to 3% faster than another, for its whole life. A repeated
    measurement would load again, so the spread between loads in fresh processes tells how far it may be off.
    """
    parts = [in_copy(f"window {one + 1} of {WINDOWS}", time_window, request, images, one) for one in range(WINDOWS)]
    found = {"rounds": np.array([len(part[0][1]) for part in parts], np.int64)}
    for prefix, of_model in zip(("", "reference_"), zip(*parts, strict=True), strict=False):
        found[f"{prefix}latency_ns"] = np.concatenate([ns for ns, _ in of_model])
        found[f"{prefix}bursts"] = np.concatenate([bursts for _, bursts in of_model])
    return found


def time_window(
    request: Request, images: npt.NDArray[np.uint8], window: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """One window: load the exported model and the reference, in alternating order, and time bursts in turns."""
    paths = [Path(path) for path in (request.exported_model, request.reference) if path is not None]
    settings = request.settings
    loaded = {path: ExportedModel(path, settings.threads) for path in (paths if window % 2 else paths[::-1])}
    return time_bursts(
        [in_turn(loaded[path], images) for path in paths],
        warmup_calls=settings.warmup_calls,
        min_duration_s=settings.min_duration_s / WINDOWS,
        min_calls=-(-settings.min_calls // WINDOWS),
        limit_s=settings.timeout_s,
        seed=request.seed + window,
        on_average=True,
    )


def answer_all(path: Path, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], float]:
    """Logits of all images, and images per second over all cores, without loading and reading.

    One single-threaded model per core, each with its own copy of the weights: LiteRT releases Python's lock while it
    computes, and images in parallel use the cores better than one image spread over them (1.03 to 1.35 times as fast
    on two cores). There are fewer where the memory is short, as in a container that may use all cores of its machine.
    """
    room = free_memory() // (2 * path.stat().st_size + MODEL_BYTES)
    workers = max(1, min(cores(), len(images), room))
    exported_models = [ExportedModel(path) for _ in range(workers)]
    logits: list[npt.NDArray[np.float32]] = []
    taken_ns = 0
    with ThreadPoolExecutor(workers) as pool:
        for block in blocks(images):
            parts = np.array_split(block, workers)
            start = perf_counter_ns()
            logits.extend(pool.map(ExportedModel.logits, exported_models, parts))
            taken_ns += perf_counter_ns() - start
    return np.concatenate(logits), len(images) / (taken_ns / 1e9)


if __name__ == "__main__":
    serve(
        lambda images, settings, **fields: Request(images=Region(**images), settings=Settings(**settings), **fields),
        measurements,
    )
