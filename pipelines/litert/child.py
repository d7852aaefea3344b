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
from pipelines.litert.latency import time_interleaved
from pipelines.litert.process import serve
from pipelines.litert.session import Request, Settings
from pipelines.litert.start import start_up
from pipelines.system.machine import cores
from pipelines.system.mapped import Region, blocks, sample

LOADS = 8


def measurements(request: Request) -> dict[str, Any]:
    """Separate passes, latency last: `load_ms`, `first_call_ms`, `images_per_s`, `logits` float32 (n, classes),
    `latency_ns` int64 (calls,) and, if there is a reference, `reference_latency_ns` of the same length.
    """
    images = request.images.mapped()
    # No timed call may wait for a disk. A test split is in random order: its first images are a fair sample.
    in_memory = sample(images)
    # Only the times are kept: the loaded model must not take memory in the next pass.
    load_ms, first_call_ms = start_up(Path(request.exported_model), request.settings.threads, in_memory[0])[1:]
    logits, images_per_s = answer_all(Path(request.exported_model), images)
    found = {"load_ms": load_ms, "first_call_ms": first_call_ms, "images_per_s": images_per_s, "logits": logits}
    return found | dict(zip(("latency_ns", "reference_latency_ns"), time_calls(request, in_memory), strict=False))


def time_calls(request: Request, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.int64]]:
    """Nanoseconds per call of the exported model and, if there is one, of the reference, in paired rounds.

    The placement of its memory makes one load of a file up to 3% faster than another, for its whole life. So the time
    is divided among several loads: only then did the interval of a file compared with its own copy always contain 1.
    """
    paths = [Path(path) for path in (request.exported_model, request.reference) if path is not None]
    parts = []
    for part in range(LOADS):
        loaded = {path: ExportedModel(path, request.settings.threads) for path in (paths if part % 2 else paths[::-1])}
        parts.append(
            time_interleaved(
                [loaded[path].query for path in paths],
                images,
                warmup_calls=request.settings.warmup_calls,
                min_duration_s=request.settings.min_duration_s / LOADS,
                min_calls=-(-request.settings.min_calls // LOADS),
                seed=request.seed + part,
            )
        )
    return [np.concatenate(times) for times in zip(*parts, strict=True)]


def answer_all(path: Path, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], float]:
    """Logits of all images, and images per second over all cores, without loading and reading.

    One single-threaded model per core, each with its own copy of the weights: LiteRT releases Python's lock while it
    computes, and images in parallel use the cores better than one image spread over them (1.03 to 1.35 times as fast
    on two cores).
    """
    workers = min(cores(), len(images))
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
