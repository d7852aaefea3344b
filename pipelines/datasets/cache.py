"""Arrays on disk that all processes of a user share: made once, mapped by everyone, the least recently used go.

An entry is `<key>.npy` and `<key>.json`, which holds facts about it. `<key>.lock` is locked (`flock`) by the process
that makes the entry, and shared by those that use it; the system lets go of it when a process dies. What is not
complete has another name, `<key>.<process>.partial`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import math
import os
import re
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.system import stopwatch

log = logging.getLogger("opscore")

DEFAULT_GB = 100.0
GB = 10**9
# Left free on the disk, for what the same cells write.
SPARE_BYTES = GB // 10
# More than the array's header and the facts take.
MARGIN_BYTES = 4096
_OURS = re.compile(r"([0-9a-f]{64})\.(?:npy|json|lock|note|(?:json\.|note\.)?\d+\.partial)")
Facts = dict[str, Any]
Images = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An entry as it lies on disk.

    last_used: seconds since 1970. whole: not one that is being made, or that a dead process left. in_use: by a process
    that lives.
    """

    key: str
    facts: Facts
    bytes: int
    last_used: float
    whole: bool
    in_use: bool


@dataclass(frozen=True, kw_only=True)
class Cache:
    """A folder of entries that together take no more than `limit_bytes`."""

    folder: Path
    limit_bytes: int

    @classmethod
    def of_environment(cls) -> Cache:
        """The cache in OPSCORE_CACHE, else in the user's cache directory, of at most OPSCORE_CACHE_GB.

        Raises ValueError where one of them is not what it must be.
        """
        given = os.environ.get("OPSCORE_CACHE_GB") or str(DEFAULT_GB)
        try:
            limit = float(given)
        except ValueError:
            limit = math.nan
        if not 0 < limit < math.inf:
            raise ValueError(
                f"OPSCORE_CACHE_GB must be a number above 0, of GB that decoded images may take, got {given!r}: "
                f"export OPSCORE_CACHE_GB={DEFAULT_GB:g}"
            )
        return cls(folder=_folder() / "images", limit_bytes=int(limit * GB))

    def entry(self, key: str, shape: tuple[int, ...], make: Callable[[Path], Facts]) -> tuple[Images, Facts]:
        """The entry's array, uint8 of `shape`, mapped read-only, and its facts; made first if it is not there.

        key: 64 hexadecimal digits. make: fills the array in the `.npy` file that it is given and gives the facts.
        The entry stays for as long as the array, or a view of it, is held. Raises ValueError where the cache has no
        room for it, OSError where its disk has none, and what `make` raises.
        """
        self._create()
        while True:
            with _Lock(self._path(key, "lock")) as lock:
                if (found := self._locked(lock, key, shape, make)) is not None:
                    lock.keep_for(found[0])
                    return found

    def _locked(
        self, lock: _Lock, key: str, shape: tuple[int, ...], make: Callable[[Path], Facts]
    ) -> tuple[Images, Facts] | None:
        """The entry under a shared lock; None where another process deleted it, or failed to make it, meanwhile."""
        path = self._path(key, "npy")
        if not path.exists():
            if lock.exclusive():
                if lock.current and not path.exists():
                    self._make(key, shape, make)
            else:
                log.info("another process decodes these images: waiting for it")
                with stopwatch.part("wait"):
                    lock.shared()
        lock.shared()
        return self._found(key, shape) if lock.current else None

    def recall(self, name: str) -> str:
        """What was noted under a name of 64 hexadecimal digits; empty if nothing was, or it is gone."""
        try:
            text = self._path(name, "note").read_text(encoding="utf-8")
        except (OSError, ValueError):
            return ""
        _touch(self._path(name, "note"))
        return text

    def note(self, name: str, text: str) -> None:
        """Keep a text under a name, in the place of the one before."""
        self._create()
        with _Lock(self._path(name, "lock")) as lock:
            lock.exclusive(wait=True)
            _write_whole(self._path(name, "note"), text)

    def stored(self) -> list[Stored]:
        """Every entry, the least recently used first."""
        keys = {path.name[:64] for path in self._files()}
        return sorted((self._stored(key) for key in keys), key=lambda one: one.last_used)

    def remove(self, key: str) -> bool:
        """Delete an entry unless it is in use, or another user's; gives whether it was deleted."""
        with _Lock(self._path(key, "lock")) as lock:
            if not (lock.exclusive() and lock.current):
                return False
            # The lock last: who waits for it finds that it is no longer the one in the folder, and begins anew.
            for path in sorted(self._files(key), key=lambda path: path.suffix == ".lock"):
                try:
                    path.unlink(missing_ok=True)
                except PermissionError:
                    return False
        return True

    def _found(self, key: str, shape: tuple[int, ...]) -> tuple[Images, Facts] | None:
        """The entry, or None where it is missing or not whole, which is then deleted."""
        path = self._path(key, "npy")
        try:
            facts = json.loads(self._path(key, "json").read_text(encoding="utf-8"))
            images = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            path.unlink(missing_ok=True)
            return None
        if images.shape != shape:
            path.unlink()
            return None
        _touch(path)
        return images, facts

    def _make(self, key: str, shape: tuple[int, ...], make: Callable[[Path], Facts]) -> None:
        partial = self._path(key, f"{os.getpid()}.partial")
        size = math.prod(shape) + MARGIN_BYTES
        try:
            # Of two that make room at once, the second must see what the first has taken.
            with _Lock(self.folder / "room.lock") as lock:
                lock.exclusive(wait=True)
                self._make_room(key, size)
                _allocate(partial, shape)
            facts = make(partial)
            _to_disk(partial)
            _write_whole(self._path(key, "json"), json.dumps(facts))
            partial.replace(self._path(key, "npy"))
            _to_disk(self.folder)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._disk_full(size) from error
            raise
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, key: str, size: int) -> None:
        """Delete what dead processes left, then entries, the least recently used first, until `size` bytes fit.

        Where they never will, nothing is deleted.
        """
        for path in list(self._files(key)):
            if path.suffix != ".lock":
                path.unlink()
        others = [one for one in self.stored() if one.key != key]
        in_use = sum(one.bytes for one in others if one.in_use)
        self._refuse(size, used=in_use, free=self._free() + self._used() - in_use)
        for one in others:
            if not (one.whole and self._fits(size)):
                self.remove(one.key)
        self._refuse(size, used=self._used(), free=self._free())

    def _fits(self, size: int) -> bool:
        return size + self._used() <= self.limit_bytes and size + SPARE_BYTES <= self._free()

    def _refuse(self, size: int, *, used: int, free: int) -> None:
        """Raise if so many bytes do not fit where so many are used, and so many free."""
        if size + used > self.limit_bytes:
            beside = f" beside {amount(used)} of images in use" if used else ""
            raise ValueError(
                f"OPSCORE_CACHE_GB must leave {amount(size)} for the decoded images{beside}, "
                f"got {self.limit_bytes / GB:g}: export OPSCORE_CACHE_GB={math.ceil((size + used) / GB)}"
            )
        if size + SPARE_BYTES > free:
            raise self._disk_full(size)

    def _disk_full(self, size: int) -> OSError:
        return OSError(
            f"OPSCORE_CACHE must have {amount(size + SPARE_BYTES)} free for the decoded images, "
            f"got {amount(self._free())} in {self.folder}: make room there, or export OPSCORE_CACHE=/var/tmp/opscore"
        )

    def _stored(self, key: str) -> Stored:
        facts: Facts = {}
        with contextlib.suppress(OSError, ValueError):
            facts = json.loads(self._path(key, "json").read_text(encoding="utf-8"))
        stats = [found for path in self._files(key) if (found := _stat(path))]
        return Stored(
            key=key,
            facts=facts,
            bytes=sum(one.st_size for one in stats),
            last_used=max((one.st_mtime for one in stats), default=0.0),
            whole=any(self._path(key, kind).exists() for kind in ("npy", "note")),
            in_use=self._in_use(key),
        )

    def _in_use(self, key: str) -> bool:
        path = self._path(key, "lock")
        if not path.exists():
            return False
        with _Lock(path) as lock:
            return not lock.exclusive()

    def _used(self) -> int:
        return sum(found.st_size for path in self._files() if (found := _stat(path)))

    def _free(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _files(self, key: str = "") -> Iterator[Path]:
        """Files of one entry, or of all. What else lies in the folder is not touched."""
        return (path for path in self.folder.glob(f"{key}*") if _OURS.fullmatch(path.name))

    def _path(self, key: str, kind: str) -> Path:
        return self.folder / f"{key}.{kind}"

    def _create(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder.is_dir() and os.access(self.folder, os.W_OK | os.X_OK)):
            raise ValueError(
                f"OPSCORE_CACHE must be a folder that can be written, got {self.folder.parent}: "
                "export OPSCORE_CACHE=/var/tmp/opscore"
            )


class _Lock:
    """A lock on a file. A process that dies lets go of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            self._file = os.open(path, os.O_RDONLY)  # another user's
        self._kept = False

    def __enter__(self) -> _Lock:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._kept:
            os.close(self._file)

    def exclusive(self, *, wait: bool = False) -> bool:
        """Lock for this process alone; False where another holds it and is not waited for."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def shared(self) -> None:
        """Lock together with others, as soon as nobody holds it alone."""
        fcntl.flock(self._file, fcntl.LOCK_SH)

    @property
    def current(self) -> bool:
        """Whether the file is still the one in its folder."""
        found = _stat(self.path)
        return found is not None and found.st_ino == os.fstat(self._file).st_ino

    def keep_for(self, array: Images) -> None:
        """Hold the lock until no view of the mapped array is left."""
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        weakref.finalize(base, os.close, self._file)
        self._kept = True


def amount(size: int) -> str:
    """Bytes as a person reads them: `7.53 GB`, `12.0 MB`."""
    return f"{size / GB:.2f} GB" if size >= GB // 10 else f"{size / 1e6:.1f} MB"


def _write_whole(path: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _folder() -> Path:
    """OPSCORE_CACHE, else the user's cache directory as the XDG Base Directory Specification has it."""
    if given := os.environ.get("OPSCORE_CACHE"):
        return Path(given).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "opscore"


def _allocate(path: Path, shape: tuple[int, ...]) -> None:
    """Create the `.npy` file at its full size; where the system can do so, with the disk's space taken for it."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    allocate = getattr(os, "posix_fallocate", None)  # not on macOS
    if allocate is not None:
        with path.open("r+b") as file:
            allocate(file.fileno(), 0, path.stat().st_size)


def _to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of names, would outlast a power failure."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _stat(path: Path) -> os.stat_result | None:
    """None where another process has deleted it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _touch(path: Path) -> None:
    with contextlib.suppress(PermissionError):  # another user's
        os.utime(path)
