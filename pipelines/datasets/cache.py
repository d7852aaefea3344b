"""Arrays on disk, shared by all processes of a user: made once, mapped by all, the least recently used evicted first.

An entry is `<key>.npy` and `<key>.json`, which holds facts about it. `<key>.lock` is locked exclusively by the process
that makes the entry and shared by those that use it. Incomplete files are called `<key>.<process>.partial`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.datasets.locked_files import Lock, allocate, other_folder, status, to_disk, touch, write_atomically
from pipelines.system import machine, stopwatch
from pipelines.system.places import expanded, is_folder

log = logging.getLogger("opscore")

DEFAULT_GB = 100.0
GB = 10**9
# Left free on the disk, for the other files of the same cells.
SPARE_BYTES = GB // 10
# More than the array's header and the facts take.
MARGIN_BYTES = 4096
_OURS = re.compile(r"([0-9a-f]{64})\.(?:npy|json|lock|note|(?:json\.|note\.)?\d+\.partial)")
Facts = dict[str, Any]
Images = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An entry on disk.

    last_used: seconds since 1970. whole: False for one in the making, or abandoned by a dead process. in_use: by a
    living process.
    """

    key: str
    facts: Facts
    bytes: int
    last_used: float
    whole: bool
    in_use: bool


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A folder of entries that together take at most `limit_bytes`."""

    folder: Path
    limit_bytes: int

    @classmethod
    def of_environment(cls) -> Cache:
        """The cache in OPSCORE_CACHE, else in the user's cache directory, of at most OPSCORE_CACHE_GB.

        Raises ValueError where OPSCORE_CACHE_GB is no positive number.
        """
        given = os.environ.get("OPSCORE_CACHE_GB") or str(DEFAULT_GB)
        limit = 0.0
        with contextlib.suppress(ValueError):
            limit = float(given)
        if not 0 < limit < math.inf:
            raise ValueError(
                f"OPSCORE_CACHE_GB must be a number above 0, of GB that decoded images may take, got {given!r}: "
                f"export OPSCORE_CACHE_GB={DEFAULT_GB:g}"
            )
        return cls(folder=_folder() / "images", limit_bytes=int(limit * GB))

    def entry(self, key: str, shape: tuple[int, ...], make: Callable[[Path], Facts]) -> tuple[Images, Facts]:
        """The entry's array, uint8 of `shape`, mapped read-only, and its facts; made first if it is missing.

        key: 64 hexadecimal digits. make: fills the array in the given `.npy` file and returns the facts.
        The entry stays for as long as the array, or a view of it, is held. Raises ValueError where the cache has no
        room for it, OSError where its disk has none, and what `make` raises.
        """
        self._create()
        while True:
            with self._lock(key) as lock:
                if (found := self._locked(lock, key, shape, make)) is not None:
                    lock.keep_for(found[0])
                    return found

    def _locked(
        self, lock: Lock, key: str, shape: tuple[int, ...], make: Callable[[Path], Facts]
    ) -> tuple[Images, Facts] | None:
        """The entry under a shared lock; None where another process deleted it, or failed to make it, meanwhile."""
        path = self._path(key, "npy")
        if not path.exists():
            if not lock.exclusive():
                log.info("another process decodes these images: waiting for it")
                with stopwatch.part("wait"):
                    lock.shared()
            elif lock.current and not path.exists():
                self._make(key, shape, make)
        lock.shared()
        return self._found(key, shape) if lock.current else None

    def recall(self, name: str) -> str:
        """The text noted under a name of 64 hexadecimal digits; empty if there is none."""
        path = self._path(name, "note")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            return ""
        touch(path)
        return text

    def note(self, name: str, text: str) -> None:
        """Keep a text under a name; replaces the one before."""
        self._create()
        with self._lock(name) as lock:
            lock.exclusive(wait=True)
            write_atomically(self._path(name, "note"), text)

    def stored(self) -> list[Stored]:
        """Every entry, the least recently used first."""
        keys = {path.name[:64] for path in self._files()}
        return sorted((self._stored(key) for key in keys), key=lambda one: one.last_used)

    def remove(self, key: str) -> bool:
        """Delete an entry unless it is in use or another user's; returns whether it was deleted."""
        with self._lock(key) as lock:
            if not (lock.exclusive() and lock.current):
                return False
            # The lock file last: a process that waits for it sees that it is gone from the folder, and starts over.
            for path in sorted(self._files(key), key=lambda path: path.suffix == ".lock"):
                try:
                    path.unlink(missing_ok=True)
                except PermissionError:
                    return False
        return True

    def _found(self, key: str, shape: tuple[int, ...]) -> tuple[Images, Facts] | None:
        """The entry; None where it is missing or damaged. A damaged one is deleted."""
        path = self._path(key, "npy")
        try:
            facts = json.loads(self._path(key, "json").read_text(encoding="utf-8"))
            images = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            images = None
        if images is None or images.shape != shape:
            path.unlink(missing_ok=True)
            return None
        touch(path)
        return images, facts

    def _make(self, key: str, shape: tuple[int, ...], make: Callable[[Path], Facts]) -> None:
        partial = self._path(key, f"{os.getpid()}.partial")
        size = math.prod(shape) + MARGIN_BYTES
        try:
            # Of two processes that make room at once, the second must see the first one's file.
            with Lock(self.folder / "room.lock") as lock:
                lock.exclusive(wait=True)
                self._make_room(key, size)
                allocate(partial, shape)
            facts = make(partial)
            to_disk(partial)
            write_atomically(self._path(key, "json"), json.dumps(facts))
            partial.replace(self._path(key, "npy"))
            to_disk(self.folder)
        except OSError as error:
            if error.errno in machine.DISK_FULL:
                raise self._disk_full(size) from error
            raise
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, key: str, size: int) -> None:
        """Delete leftovers of dead processes, then entries, the least recently used first, until `size` bytes fit.

        Deletes nothing where they can never fit.
        """
        for path in list(self._files(key)):
            if path.suffix != ".lock":
                path.unlink()
        others = [one for one in self.stored() if one.key != key]
        in_use = sum(one.bytes for one in others if one.in_use)
        self._check_room(size, used=in_use, free=self._free() + self._used() - in_use)
        for one in others:
            fits = size + self._used() <= self.limit_bytes and size + SPARE_BYTES <= self._free()
            if not (one.whole and fits):
                self.remove(one.key)
        self._check_room(size, used=self._used(), free=self._free())

    def _check_room(self, size: int, *, used: int, free: int) -> None:
        """Raise if `size` bytes do not fit next to `used` bytes on a disk with `free` bytes."""
        if size + used > self.limit_bytes:
            in_use = f" in addition to {amount(used)} of images in use" if used else ""
            raise ValueError(
                f"OPSCORE_CACHE_GB must leave {amount(size)} for the decoded images{in_use}, "
                f"got {self.limit_bytes / GB:g}: export OPSCORE_CACHE_GB={math.ceil((size + used) / GB)}"
            )
        if size + SPARE_BYTES > free:
            raise self._disk_full(size)

    def _disk_full(self, size: int) -> OSError:
        return OSError(
            f"OPSCORE_CACHE must have {amount(size + SPARE_BYTES)} free for the decoded images, "
            f"got {amount(self._free())} in {self.folder}: make room there, or export OPSCORE_CACHE={other_folder()}"
        )

    def _stored(self, key: str) -> Stored:
        facts: Facts = {}
        with contextlib.suppress(OSError, ValueError):
            facts = json.loads(self._path(key, "json").read_text(encoding="utf-8"))
        stats = [found for path in self._files(key) if (found := status(path))]
        return Stored(
            key=key,
            facts=facts,
            bytes=sum(one.st_size for one in stats),
            last_used=max((one.st_mtime for one in stats), default=0.0),
            whole=any(self._path(key, kind).exists() for kind in ("npy", "note")),
            in_use=self._in_use(key),
        )

    def _in_use(self, key: str) -> bool:
        if not self._path(key, "lock").exists():
            return False
        with self._lock(key) as lock:
            return not lock.exclusive()

    def _used(self) -> int:
        return sum(found.st_size for path in self._files() if (found := status(path)))

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _files(self, key: str = "") -> Iterator[Path]:
        """The files of one entry, or of all; other files in the folder are ignored."""
        return (path for path in self.folder.glob(f"{key}*") if _OURS.fullmatch(path.name))

    def _path(self, key: str, kind: str) -> Path:
        return self.folder / f"{key}.{kind}"

    def _lock(self, key: str) -> Lock:
        return Lock(self._path(key, "lock"))

    def _create(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        if not (is_folder(self.folder) and os.access(self.folder, os.W_OK | os.X_OK)):
            raise ValueError(
                f"OPSCORE_CACHE must be a writable folder, got {self.folder.parent}: "
                f"export OPSCORE_CACHE={other_folder()}"
            )


def amount(size: int) -> str:
    """Bytes as text: `7.53 GB`, `12.0 MB`."""
    return f"{size / GB:.2f} GB" if size >= GB // 10 else f"{size / 1e6:.1f} MB"


def _folder() -> Path:
    """OPSCORE_CACHE, else the user's cache directory by the XDG Base Directory Specification."""
    if given := os.environ.get("OPSCORE_CACHE"):
        return expanded(given).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else expanded("~/.cache")) / "opscore"
