"""Files that several processes share: locks that end with their process, and writes that are complete or absent."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.system.locks import NoLocksError, lock


def other_folder() -> str:
    """A folder for OPSCORE_CACHE on another disk than most people's, which no other user has."""
    return f"/var/tmp/opscore-{os.getuid()}"


class Lock:
    """An `flock` on a file, as a context. The system releases it when its process dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            self._file = os.open(path, os.O_RDONLY)  # another user's
        self._kept = False

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            os.close(self._file)

    def exclusive(self, *, wait: bool = False) -> bool:
        """Lock for this process alone; without `wait`, False if another process holds the lock."""
        return self._lock(wait=wait)

    def shared(self) -> None:
        """Share the lock with other processes; waits while one holds it exclusively."""
        self._lock(shared=True)

    def _lock(self, **how: bool) -> bool:
        try:
            return lock(self._file, **how)
        except NoLocksError as error:
            raise OSError(
                f"OPSCORE_CACHE must be on a file system with locks, got {self.path.parent}: for example `export "
                f"OPSCORE_CACHE={other_folder()}`"
            ) from error

    @property
    def current(self) -> bool:
        """Whether the locked file is still the one at its path."""
        found = status(self.path)
        return found is not None and found.st_ino == os.fstat(self._file).st_ino

    def keep_for(self, array: Any) -> None:
        """Hold the lock until no view of the mapped array is left."""
        while isinstance(array, np.ndarray):
            array = array.base
        weakref.finalize(array, os.close, self._file)
        self._kept = True


def status(path: Path) -> os.stat_result | None:
    """The file's status; None if another process has deleted it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def touch(path: Path) -> None:
    """Mark a file as used now, unless it belongs to another user."""
    with contextlib.suppress(PermissionError):
        os.utime(path)


def write_atomically(path: Path, text: str) -> None:
    """Write a file: other processes see all of it or none."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def allocate(path: Path, shape: tuple[int, ...]) -> None:
    """Create a uint8 `.npy` file at its full size, with its disk space reserved where the system can do so."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of names, would survive a power failure."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
