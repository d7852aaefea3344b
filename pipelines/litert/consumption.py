"""Energy of single images on one artifact: `python -m pipelines.litert.consumption REQUEST.json`.

A pass of its own: what reads the machine's counters would stand beside what is timed.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.litert.process import answer
from pipelines.litert.stream import single
from pipelines.system import energy


@dataclass(frozen=True, kw_only=True)
class ConsumptionRequest:
    """What the child is asked. duration_s: of the counted calls."""

    exported_model: str
    threads: int
    warmup_calls: int
    duration_s: float
    seed: int
    result: str


def main(path: Path) -> None:
    """Carry out the request in the JSON file `path`."""
    request = ConsumptionRequest(**json.loads(path.read_text(encoding="utf-8")))
    answer(request.result, consumed(request))


def consumed(request: ConsumptionRequest) -> dict[str, Any]:
    """`images`, how many were answered, and the joules that the machine used meanwhile by `cpu` and `dram`.

    What the machine does not tell is absent. GPUs are left out: LiteRT answers on the processor.
    """
    call = single(Path(request.exported_model), request.threads, request.seed)
    for _ in range(request.warmup_calls):
        call()
    joules: dict[str, float] = {}
    count = 0
    with energy.measure_energy(joules):
        end = time.perf_counter() + request.duration_s
        while not count or time.perf_counter() < end:
            call()
            count += 1
    return {"images": count} | {name: value for name, value in joules.items() if name in ("cpu", "dram")}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
