"""The raw times of one exported model in a session."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipelines.device.answers import Agreement
from pipelines.litert.latency import Load


@dataclass(frozen=True, kw_only=True)
class Start:
    """One fresh process: its load time, its first call, the median of its later calls, and its peak memory."""

    load_ms: float
    first_call_ms: float
    call_ms: float
    peak_bytes: int


@dataclass(frozen=True, kw_only=True)
class Consumption:
    """Joules of the machine by `cpu` and `dram` for a number of single images."""

    images: int
    joules: dict[str, float]

    @property
    def mj_per_image(self) -> dict[str, float]:
        """Millijoules of one image by `cpu` and `dram`."""
        return {name: value / self.images * 1e3 for name, value in self.joules.items()}


@dataclass(frozen=True, kw_only=True)
class Raw:
    """The raw times of one exported model.

    version, precision: of the runtime, and what it computed in. latency, consumption: by number of threads; consumption
    is empty on a machine without energy counters. throughput: by batch, where a call is one batch. refused: by batch,
    why the exported model does not take it. agreement: with LiteRT; None in a session of LiteRT alone.
    """

    version: str
    precision: str

    starts: list[Start] = field(default_factory=list)
    latency: dict[int, list[Load]] = field(default_factory=dict)
    throughput: dict[int, list[Load]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    consumption: dict[int, Consumption] = field(default_factory=dict)
    agreement: Agreement | None = None


def raw_arrays(raw: Raw) -> dict[str, Any]:
    """The raw times as the arrays of an `.npz`.

    `ns_<t>t`: nanoseconds of every counted call with t threads. `bursts_<t>t`: calls in each burst. `loads_<t>t`:
    bursts in each load. `ns_b<b>` and so on: the same for batches of b. `starts`: (n, 4), milliseconds of loading, of
    the first call and of later calls, and bytes of memory.
    """
    found: dict[str, Any] = {"starts": np.array([list(asdict(start).values()) for start in raw.starts], np.float64)}
    named = {f"{threads}t": loads for threads, loads in raw.latency.items()}
    named |= {f"b{batch}": loads for batch, loads in raw.throughput.items()}
    for name, loads in named.items():
        found[f"ns_{name}"] = np.concatenate([load.ns for load in loads])
        found[f"bursts_{name}"] = np.concatenate([load.bursts for load in loads])
        found[f"loads_{name}"] = np.array([len(load.bursts) for load in loads], np.int64)
    return found
