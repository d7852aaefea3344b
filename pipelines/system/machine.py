"""The description of this machine. Properties that the system does not report are left out."""

import errno
import itertools
import math
import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from typing import Any

# Error numbers of a disk without room.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

CPUINFO = Path("/proc/cpuinfo")
BOARD = Path("/proc/device-tree/model")
CGROUPS = Path("/sys/fs/cgroup")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
# The variable that names the cards of a process.
CARDS = "CUDA_VISIBLE_DEVICES"
# What the drivers of NVIDIA and AMD make, and what Windows lends its Linux where there is a card of NVIDIA's.
GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/usr/lib/wsl/lib/libcuda.so.1"))
# Instructions for products of bfloat16 numbers, by their names in CPUINFO.
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
_ARM_NUMBERS = {"implementer": "CPU implementer", "part": "CPU part"}
# Parts of processors' names that tell no two models apart.
_NOISE = re.compile(r"\((?:r|tm)\)|@.*|\bcpu\b|\b\d+-core\b|\bprocessor\b", re.IGNORECASE)


def processor() -> str:
    """The processor's name, or the board's where the processor has none, as on many ARM boards.

    Where a container hides the board, the Linux kernel's word for it, or the numbers of processor and maker.
    """
    fields: dict[str, str] = {}
    if CPUINFO.exists():
        # Of several cores the first.
        lines = [line.partition(":") for line in CPUINFO.read_text().splitlines()]
        fields = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    if name := fields.get("model name"):
        return name
    if BOARD.exists():
        return BOARD.read_text().strip("\0 \n")
    if name := fields.get("Model"):
        return name
    numbers = [f"{word} {fields[key]}" for word, key in _ARM_NUMBERS.items() if key in fields]
    return " ".join([platform.processor() or platform.machine(), *numbers])


def has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 that oneDNN uses: AVX512-BF16 or AMX."""
    return CPUINFO.exists() and not _BFLOAT16.isdisjoint(CPUINFO.read_text().split())


def has_gpu_driver() -> bool:
    """Whether the driver of a GPU is loaded; it does not tell whether TensorFlow can use it."""
    return any(path.exists() for path in GPU_DRIVERS)


def nvidia_cards() -> list[str]:
    """The cards that this process may use, as `CUDA_VISIBLE_DEVICES` names them, whoever set it; else all there are."""
    granted = os.environ.get(CARDS)
    if granted is not None:
        # CUDA reads up to the first that it does not know, such as -1.
        known = takewhile(lambda card: card and card != "-1", (card.strip() for card in granted.split(",")))
        return list(dict.fromkeys(known))
    return sorted((path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*")), key=int)


def cores() -> int:
    """The number of cores that this process may use: a container or a scheduler may allow fewer than there are."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS or Windows
    there = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, int(min(there, _granted_cores())))


def free_memory() -> int:
    """Bytes that are free on the machine, but no more than the whole limit of this process's container.

    What the container uses already includes cached files, which it can give back; so this is rather too much.
    """
    import psutil

    limits = (limit for (limit,) in _cgroup(("memory.max",), ("memory/memory.limit_in_bytes",)))
    return int(min([psutil.virtual_memory().available, *limits]))


def _granted_cores() -> float:
    """Cores whose time the limit of a container is worth; infinite without a limit."""
    limits = _cgroup(("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
    return min((quota / period for quota, period in limits), default=math.inf)


def _cgroup(*versions: Sequence[str]) -> Iterator[list[float]]:
    """The numbers of each control group of this process, without those that are no limit.

    versions: the files that hold them, in version 2 and in version 1 of control groups. A container sees its own group
    as the root. Source: https://docs.kernel.org/admin-guide/cgroup-v2.html.
    """
    own = ""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(line for line in lines if line.startswith("0::")).removeprefix("0::").strip("/")
    folders = [CGROUPS / own, *(CGROUPS / one for one in Path(own).parents)]
    for folder, names in itertools.product(folders, versions):
        with suppress(OSError, ValueError):
            # `max` is no number.
            found = [float(number) for name in names for number in (folder / name).read_text().split()]
            if found[0] > 0:
                yield found


def free_space(folder: Path) -> str:
    """The free space on the disk of a folder, in words that name the disk."""
    usage = shutil.disk_usage(folder)
    disk = next(each for each in (folder.resolve(), *folder.resolve().parents) if each.is_mount())
    return f"{usage.free / 1e6:,.0f} of {usage.total / 1e6:,.0f} MB are free on the disk {disk}"


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise OSError where the disk of a folder has less than this many bytes free. what: needs them, in words."""
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, f"{what} needs about {needed / 1e6:,.0f} MB, and {free_space(folder)}")


def governor() -> str | None:
    """The frequency governor, such as `performance` or `powersave`; None where the system reports none."""
    return GOVERNOR.read_text().strip() if GOVERNOR.is_file() else None


def hardware() -> dict[str, Any]:
    """Processor, cores and memory, with the system and Python."""
    import psutil

    return {
        "processor": processor(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def description() -> dict[str, Any]:
    """The properties that times measured here depend on."""
    properties = {
        **hardware(),
        "architecture": platform.machine(),
        "governor": governor(),
        "runtime": f"LiteRT {metadata.version('ai-edge-litert')}",
        "numpy": metadata.version("numpy"),
    }
    return {name: value for name, value in properties.items() if value}


def slug() -> str:
    """A short name of this kind of machine, such as `amd-epyc-7b13-2c`."""
    words = re.findall(r"[a-z0-9.]+", _NOISE.sub(" ", processor()).lower())
    count = f"{cores()}c"
    name = "-".join(words)[: 59 - len(count)].rstrip("-.")
    return f"{name}-{count}" if name else count
