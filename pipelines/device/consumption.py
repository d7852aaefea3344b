"""Energy of single images on one exported model: `python -m pipelines.device.consumption REQUEST.json`.

A separate pass: reading the machine's counters would disturb the timing.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.device.stream import single
from pipelines.litert.process import serve
from pipelines.runtimes.base import named
from pipelines.system import energy


@dataclass(frozen=True, kw_only=True)
class ConsumptionRequest:
    """A request to the child. duration_s: of the counted calls."""

    exported_model: str
    runtime: str
    threads: int
    warmup_calls: int
    duration_s: float
    seed: int


def consumed(request: ConsumptionRequest) -> dict[str, Any]:
    """`images`, the number of calls, and the joules of `cpu` and `dram` meanwhile, as far as the machine counts them.

    GPUs are left out: all runtimes here run on the processor.
    """
    call = single(Path(request.exported_model), named(request.runtime), request.threads, request.seed)
    for _ in range(request.warmup_calls):
        call()
    joules: dict[str, float] = {}
    count = 0
    with energy.measure_energy(joules):
        end = time.perf_counter() + request.duration_s
        while not count or time.perf_counter() < end:
            call()
            count += 1
    counted = {name: value for name, value in joules.items() if name in ("cpu", "dram") and math.isfinite(value)}
    return {"images": count} | counted


if __name__ == "__main__":
    serve(ConsumptionRequest, consumed)
