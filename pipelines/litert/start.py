"""Start-up and memory of one exported model, alone in a process: `python -m pipelines.litert.start REQUEST.json`."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert import memory
from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.process import answer


@dataclass(frozen=True, kw_only=True)
class StartRequest:
    """What the child is asked. image: of an `.npy` file, uint8 (h, w, 3). calls: how many follow the first one."""

    exported_model: str
    image: str
    threads: int
    calls: int
    result: str


def main(path: Path) -> None:
    """Carry out the request in the JSON file `path`."""
    request = StartRequest(**json.loads(path.read_text(encoding="utf-8")))
    answer(request.result, started(request, np.load(request.image, allow_pickle=False)))


def started(request: StartRequest, image: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """`load_ms`, `first_call_ms`, `call_ms` (median of the calls that follow) and `peak_bytes`.

    peak_bytes: by how much loading and calling raised the peak of a process with Python, numpy and LiteRT in it.
    """
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
    """The exported model, and milliseconds of loading it (its file is in the page cache) and of its first call."""
    start = perf_counter_ns()
    exported_model = ExportedModel(path, threads)
    loaded = perf_counter_ns()
    exported_model.query(image)
    return exported_model, (loaded - start) / 1e6, (perf_counter_ns() - loaded) / 1e6


if __name__ == "__main__":
    main(Path(sys.argv[1]))
