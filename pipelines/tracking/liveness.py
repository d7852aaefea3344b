"""The process that works on a run, and whether it lives: on this machine known at once, on another by its heartbeat."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from pipelines.system.processes import start_ticks

log = logging.getLogger(__name__)

BEAT_S = 10.0
# A process without a heartbeat for this long is dead. Its disk or network may hang for a shorter time.
DEAD_AFTER_S = 90.0


def process_id(pid: int | None = None) -> str:
    """A unique name of the process `pid`, by default this one: machine, pid and start."""
    process = psutil.Process(pid)
    # Seconds since 1970, for where /proc does not tell.
    return f"{stem(process.pid)}{process.create_time():.0f}{_ticks(process)}"


def stem(pid: int) -> str:
    """The beginning of the id of every process with this pid on this machine."""
    return f"{_machine()} {pid} "


def is_gone(named: str) -> bool:
    """Whether the process that `process_id` named is known to have ended.

    That is unknown for a process on another machine or of another boot, for one of another user that the system hides,
    and for an empty name: a claim that is being deleted has lost its tags.
    """
    return _lives(named) is False


def is_dead(named: str, beat: float) -> bool:
    """Whether the process that `process_id` named has ended, or was silent for so long that it must have.

    beat: of its last sign of life, in seconds since 1970.
    """
    lives = _lives(named)
    if lives is not None:
        # Stopped by Ctrl-Z, or without its store for a while.
        return not lives
    machine = named.rsplit(" ", 2)[0]
    # Of an earlier boot of this machine, or of another one of its name.
    is_other_boot = machine != _machine() and machine.partition(" ")[0] == socket.gethostname()
    # The clocks of two machines differ, so their limit is generous.
    return time.time() - beat > DEAD_AFTER_S * (1 if is_other_boot else 10)


def _lives(named: str) -> bool | None:
    """Whether the process lives; None where that cannot be seen from here."""
    machine, *numbers = named.rsplit(" ", 2)
    if machine != _machine() or len(numbers) != 2:
        return None
    pid, started = numbers
    try:
        process = psutil.Process(int(pid))
        return _is_start(process, started) and process.status() != psutil.STATUS_ZOMBIE
    except (PermissionError, psutil.AccessDenied):
        return None
    except psutil.NoSuchProcess:
        return None if _exists(int(pid)) else False


def _ticks(process: psutil.Process) -> str:
    """A point, and from the machine's start to the process's the ticks of its clock; empty where /proc does not tell.

    The time of day may be set while a process runs, as on a virtual machine that resumes.
    """
    try:
        return f".{start_ticks(process.pid)}"
    except FileNotFoundError:
        return ""


def _is_start(process: psutil.Process, started: str) -> bool:
    seconds, point, ticks = started.partition(".")
    if point:
        return _ticks(process) == f".{ticks}"
    return abs(process.create_time() - float(seconds)) <= 2


def _exists(pid: int) -> bool:
    """Whether there is a process with this number, even where /proc shows only one's own."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def _machine() -> str:
    # Cloned machines may share their name, but no boot; two containers may share both, but not their process numbers.
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = [socket.gethostname(), boot.read_text().strip() if boot.exists() else ""]
    return " ".join(filter(None, [*parts, str(namespace.readlink()) if namespace.exists() else ""]))


def beat_now() -> str:
    """The text of a sign of life."""
    return f"{time.time():.0f}"


class Pulse:
    """Calls `beat` with `beat_now` every `BEAT_S` seconds from a thread, from `start` to `stop` or in a context.

    A beat that fails is skipped.
    """

    def __init__(self, beat: Callable[[str], object]) -> None:
        self._beat = beat
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, once."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        # Do not wait for a beat that hangs on a dead server.
        self._stop.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                self._beat(beat_now())
            except Exception as error:  # noqa: BLE001 (whatever the store's client raises, the work goes on)
                log.debug("a heartbeat was missed: %s", error)
