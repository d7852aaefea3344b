"""The machine that measures, as it describes itself. What it does not tell is left out."""

import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
# In processors' names, but in no one's mouth.
_NOISE = re.compile(r"\((?:r|tm)\)|@.*|\bcpu\b|\b\d+-core\b|\bprocessor\b", re.IGNORECASE)


def processor() -> str:
    """The processor's name; of a board whose processor has none, as many ARM ones, the board's."""
    cpuinfo, board = Path("/proc/cpuinfo"), Path("/proc/device-tree/model")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if board.exists():
        return board.read_text().strip("\0 \n")
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use; a container or a scheduler may allow fewer than the machine has."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS or Windows
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def room(folder: Path) -> str:
    """How much is free on the disk that a folder is on, in words that name both."""
    usage = shutil.disk_usage(folder)
    disk = next(each for each in (folder.resolve(), *folder.resolve().parents) if each.is_mount())
    return f"{usage.free / 1e6:,.0f} of {usage.total / 1e6:,.0f} MB are free on the disk {disk}"


def governor() -> str | None:
    """What chooses the processor's frequency, such as `performance` or `powersave`; None where it is not told."""
    return GOVERNOR.read_text().strip() if GOVERNOR.is_file() else None


def description() -> dict[str, Any]:
    """What a time measured here depends on: processor, usable cores, governor, memory, system and versions."""
    import psutil

    told = {
        "processor": processor(),
        "architecture": platform.machine(),
        "cores": cores(),
        "governor": governor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "runtime": f"LiteRT {metadata.version('ai-edge-litert')}",
        "numpy": metadata.version("numpy"),
    }
    return {name: value for name, value in told.items() if value}


def slug() -> str:
    """A short name for this kind of machine, such as `amd-epyc-7b13-2c`: two of a kind share it."""
    words = re.findall(r"[a-z0-9.]+", _NOISE.sub(" ", processor()).lower())
    return "-".join([*words, f"{cores()}c"])[:60]
