"""Energy from the machine's own counters, read by Zeus: RAPL of processors and memory, NVML or AMD SMI of GPUs.

Zeus comes with the extra `energy`. Without it, and on a machine without counters, such as most virtual machines,
nothing is recorded: an unknown value is absent, never zero. Source: You, Chung and Chowdhury 2023,
arXiv:2208.06102.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

log = logging.getLogger("opscore")

# Gives the joules used so far by `cpu`, `dram` and `gpu`.
Read = Callable[[], dict[str, float]]


def is_available() -> bool:
    """Whether this machine has energy counters that can be read."""
    return bool(_counters())


@contextmanager
def measure_energy(joules: dict[str, float]) -> Iterator[None]:
    """Add the energy of the whole machine during the block to `joules`, by `cpu`, `dram` and `gpu`.

    A sum is NaN for good where a counter began again from 0 during a block.
    """
    before = [read() for read in _counters()]
    try:
        yield
    finally:
        for read, earlier in zip(_counters(), before, strict=True):
            for name, now in read().items():
                used = now - earlier[name]
                joules[name] = joules.get(name, 0.0) + (used if used >= 0 else math.nan)


@cache
def _counters() -> tuple[Read, ...]:
    """The counters of processor packages and GPUs."""
    if find_spec("zeus") is None:
        return ()
    from zeus.device import get_cpus, get_gpus
    from zeus.exception import ZeusBaseError

    found: list[Read] = []
    try:
        found += [_of_cpu(cpu) for cpu in get_cpus().cpus]
    except ZeusBaseError as error:
        log.debug("the processors' energy is not measured: %s", error)
    try:
        found += [_of_gpu(gpu) for gpu in get_gpus().gpus if gpu.supports_get_total_energy_consumption()]
    except ZeusBaseError as error:
        log.debug("the GPUs' energy is not measured: %s", error)
    return tuple(found)


def _of_cpu(cpu: Any) -> Read:
    def read() -> dict[str, float]:
        used = cpu.get_total_energy_consumption()
        joules = {"cpu": used.cpu_mj / 1e3}
        return joules if used.dram_mj is None else joules | {"dram": used.dram_mj / 1e3}

    return read


def _of_gpu(gpu: Any) -> Read:
    return lambda: {"gpu": gpu.get_total_energy_consumption() / 1e3}
