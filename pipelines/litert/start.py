"""Start-up and memory of one exported model, alone in a process: `python -m pipelines.litert.start REQUEST.json`."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert import memory
from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.process import serve


@dataclass(frozen=True, kw_only=True)
class StartRequest:
    """A request to the child. image: an `.npy` file, uint8 (h, w, 3). calls: number of calls after the first one."""

    exported_model: str
    image: str
    threads: int
    calls: int
    result: str


def started(request: StartRequest) -> dict[str, Any]:
    """`load_ms`, `first_call_ms`, `call_ms` (median of the following calls) and `peak_bytes`.

    peak_bytes: increase of the peak memory by loading and calling, in a process with Python, numpy and LiteRT.
    """
    image = np.load(request.image, allow_pickle=False)
    memory.restart_peak()
    before = memory.peak_bytes()
    exported_model, load_ms, first_call_ms = start_up(Path(request.exported_model), request.threads, image)
    calls_ns = []
    for _ in range(request.calls):
        start = perf_counter_ns()
        exported_model.query(image)
        calls_ns.append(perf_counter_ns() - start)
    return {
        "load_ms": load_ms,
        "first_call_ms": first_call_ms,
        "call_ms": float(np.median(calls_ns)) / 1e6,
        "peak_bytes": memory.peak_bytes() - before,
    }


def start_up(path: Path, threads: int, image: npt.NDArray[np.uint8]) -> tuple[ExportedModel, float, float]:
    """The exported model, and milliseconds of loading it (from the page cache) and of its first call."""
    start = perf_counter_ns()
    exported_model = ExportedModel(path, threads)
    loaded = perf_counter_ns()
    exported_model.query(image)
    return exported_model, (loaded - start) / 1e6, (perf_counter_ns() - loaded) / 1e6


if __name__ == "__main__":
    serve(StartRequest, started)
