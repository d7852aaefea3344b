"""The folder of a command: two that work at the same time must not share one."""

import errno
import fcntl
from pathlib import Path
from typing import TextIO

LOCK = ".opscore.lock"
# Locks that this process holds: they are released when it ends, however it ends.
_HELD: list[TextIO] = []


def claim(folder: Path, setting: str) -> None:
    """Make the folder, and keep it for this process as long as it lives.

    setting: what names the folder, such as `hydra.sweep.dir`. Raises ValueError where another process is at work in it,
    and OSError where it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / LOCK).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        # A network's file system without locks: the folder's name alone has to do.
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            return
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise ValueError(
            f"{setting} must be a folder in which no other command is at work, got {folder}: wait for that one, or "
            f"leave {setting} out for a new folder"
        ) from error
    _HELD.append(lock)
