"""A command's folder, which no other command may use at the same time."""

import errno
import fcntl
from pathlib import Path
from typing import TextIO

LOCK = ".opscore.lock"
# The locks of this process, which the system releases when it ends.
_HELD: list[TextIO] = []


def claim(folder: Path, setting: str) -> None:
    """Make the folder, and lock it for as long as this process lives.

    setting: the field that names the folder, such as `hydra.sweep.dir`. Raises ValueError where another process uses
    the folder, and OSError where it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / LOCK).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        # A network file system without locks: only the folder's name keeps commands apart.
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            return
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        raise ValueError(
            f"{setting} must be a folder in which no other command is at work, got {folder}: wait for that one, or "
            f"leave {setting} out for a new folder"
        ) from error
    _HELD.append(lock)
