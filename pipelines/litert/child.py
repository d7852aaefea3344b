"""The process that measures: `python -m pipelines.litert.child REQUEST.json`.

It loads numpy and LiteRT and nothing else, so that no training library's threads or memory stand beside what
is timed.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.latency import time_interleaved
from pipelines.litert.process import answer
from pipelines.litert.session import Request
from pipelines.litert.start import start_up
from pipelines.system.machine import cores
from pipelines.system.mapped import Region, blocks, sample

LOADS = 8


def main(path: Path) -> None:
    """Carry out the request in the JSON file `path` and leave its result, whole or not at all."""
    asked = json.loads(path.read_text(encoding="utf-8"))
    request = Request(**asked | {"images": Region(**asked["images"])})
    answer(request.result, measurements(request, request.images.mapped()))


def measurements(request: Request, images: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Each pass on its own, the latency last, when nothing else is left to do.

    Gives `load_ms`, `first_call_ms`, `images_per_s`, `logits` float32 (n, classes), `latency_ns` int64
    (calls,) and, if there is a reference, `reference_latency_ns` of the same length.
    """
    # No call that is timed may wait for a disk. A test split is in random order: its first images are a fair sample.
    in_memory = sample(images)
    # The loaded exported model itself is let go: nothing of this pass stands beside the next.
    load_ms, first_call_ms = start_up(Path(request.exported_model), request.threads, in_memory[0])[1:]
    logits, images_per_s = answer_all(Path(request.exported_model), images)
    found = {
        "load_ms": load_ms,
        "first_call_ms": first_call_ms,
        "images_per_s": images_per_s,
        "logits": logits,
    }
    return found | dict(zip(("latency_ns", "reference_latency_ns"), time_calls(request, in_memory), strict=False))


def time_calls(request: Request, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.int64]]:
    """Nanoseconds per call of the exported model and, if there is one, of the reference, in paired rounds.

    Where its memory happens to lie makes one load of a file up to 3% faster than another, for as long as it
    lives. So the time is shared out among several loads: only then did the interval of a file beside its own
    copy hold 1 every time.
    """
    paths = [Path(path) for path in (request.exported_model, request.reference) if path is not None]
    parts = []
    for part in range(LOADS):
        loaded = {path: ExportedModel(path, request.threads) for path in (paths if part % 2 else paths[::-1])}
        parts.append(
            time_interleaved(
                [loaded[path].query for path in paths],
                images,
                warmup_calls=request.warmup_calls,
                min_duration_s=request.min_duration_s / LOADS,
                min_calls=-(-request.min_calls // LOADS),
                seed=request.seed + part,
            )
        )
    return [np.concatenate(times) for times in zip(*parts, strict=True)]


def answer_all(path: Path, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], float]:
    """Logits of all images, and images per second over all cores, loading and reading left out.

    One single-threaded Exported model per core: LiteRT lets go of Python's lock while it computes, and images side
    by side use the cores better than one image spread over them (1.03 to 1.35 times as fast on two cores).
    Each Exported model keeps its own copy of the weights in memory.
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
    main(Path(sys.argv[1]))
