"""Processes: how they ended and when they started, as Linux sees it."""

import ctypes
import signal
from pathlib import Path
from typing import Literal

# Of Linux's prctl(2): the signal that a process gets when its parent dies.
_PR_SET_PDEATHSIG = 1
# Found before a fork: its copy must not wait for a lock of the loader that another thread held.
_PRCTL = getattr(ctypes.CDLL(None), "prctl", None)


def ending(code: int) -> str:
    """How a process ended, in words. code: its exit status, or the negative number of the signal that killed it."""
    if code >= 0:
        return f"ended with exit code {code}"
    # Real-time signals have no names.
    return f"was killed by {next((one.name for one in signal.Signals if one == -code), f'signal {-code}')}"


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Let this process get a signal when its parent dies; no-op where the system is not Linux."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, number)


def start_ticks(pid: int | Literal["self"]) -> int:
    """Ticks of the clock (`SC_CLK_TCK`) from the machine's start to that of a process. Raises FileNotFoundError where
    there is no /proc, or no such process.
    """
    # The name, in parentheses, may hold anything.
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
