"""Which process works on a run, and whether it still lives: on this machine at once, on another by its heartbeat."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import psutil

log = logging.getLogger(__name__)

PROCESS, HEARTBEAT = "process", "heartbeat"
BEAT_S = 10.0
# A machine that says nothing for so long is dead. Its disk or its network may hang for a while before it is.
DEAD_AFTER_S = 90.0


def identity(pid: int | None = None) -> str:
    """A name for the process `pid`, by default this one, that no other process has: machine, pid and start."""
    process = psutil.Process(pid)
    return f"{stem(process.pid)}{process.create_time():.0f}"


def stem(pid: int) -> str:
    """What the identity of every process with this number on this machine begins with."""
    return f"{_machine()} {pid} "


def is_gone(named: str) -> bool:
    """Whether the process that `identity` named is known to have ended.

    Of one on another machine that is not known, nor of none: an entry that is deleted just now has lost its tags.
    """
    machine, *numbers = named.rsplit(" ", 2)
    if machine != _machine() or len(numbers) != 2:
        return False
    pid, started = numbers
    try:
        process = psutil.Process(int(pid))
        # The start is worked out from a clock that may be set in between.
        return abs(process.create_time() - float(started)) > 2 or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _machine() -> str:
    # Two containers may share the host's name; their process numbers mean different things.
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {namespace.readlink() if namespace.exists() else ''}".strip()


class Pulse:
    """Calls `beat` every `BEAT_S` seconds from a thread, as long as the context lasts. A beat that fails is missed."""

    def __init__(self, beat: Callable[[], object]) -> None:
        self._beat = beat
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A beat may hang on a server that is gone: the work does not wait for it.
        self._stop.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                self._beat()
            except Exception as error:  # noqa: BLE001 (whatever the store's client raises, the work goes on)
                log.debug("a heartbeat was missed: %s", error)
