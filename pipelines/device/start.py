"""Start-up and memory of one exported model, alone in a process: `python -m pipelines.device.start REQUEST.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from pipelines.litert import memory
from pipelines.litert.process import serve
from pipelines.litert.start import start_up
from pipelines.runtimes.base import Loaded, named
from pipelines.system.words import one_line


@dataclass(frozen=True, kw_only=True)
class StartRequest:
    """A request to the child. image: an `.npy` file, uint8 (h, w, 3). calls: number of calls after the first one."""

    exported_model: str
    runtime: str
    image: str
    threads: int
    calls: int


def started(request: StartRequest) -> dict[str, Any]:
    """`load_ms`, `first_call_ms`, `call_ms` (median of the following calls), `peak_bytes`, and what was loaded:
    `version` of the runtime and `precision`. If the runtime does not take the model, only `refused`, the reason.

    peak_bytes: increase of the peak memory by loading and calling, in a process with Python, NumPy and the runtime.
    """
    image = np.load(request.image, allow_pickle=False)
    runtime = named(request.runtime)
    version = runtime.version()
    try:
        runtime.prepare(Path(request.exported_model))
        memory.restart_peak()
        before = memory.peak_bytes()
        model, load_ms, first_call_ms = start_up(
            lambda: runtime.load(Path(request.exported_model), request.threads), image
        )
    # A library may find at the first call alone that it cannot run a model.
    except (ValueError, RuntimeError) as error:
        return {"refused": np.array(one_line(error))}
    calls_ns = []
    for _ in range(request.calls):
        start = perf_counter_ns()
        model.query(image)
        calls_ns.append(perf_counter_ns() - start)
    return {
        "load_ms": load_ms,
        "first_call_ms": first_call_ms,
        "call_ms": float(np.median(calls_ns)) / 1e6,
        "peak_bytes": memory.peak_bytes() - before,
        "version": np.array(version),
        "precision": np.array(_precision(model)),
    }


def _precision(model: Loaded) -> str:
    """That which the runtime computes in; unknown where its file holds what opscore does not read."""
    try:
        return model.precision
    except Exception:  # noqa: BLE001 (the runtime runs it, which is what is measured)
        return "unknown"


if __name__ == "__main__":
    serve(StartRequest, started)
