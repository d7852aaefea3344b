"""A command's folder, which no other command may use at the same time."""

from contextlib import suppress
from pathlib import Path
from typing import TextIO

from pipelines.system.locks import NoLocksError, lock

LOCK = ".opscore.lock"
# The locks of this process, which the system releases when it ends.
_HELD: list[TextIO] = []


def claim(folder: Path, setting: str) -> None:
    """Make the folder, and lock it for as long as this process lives.

    setting: the field that names the folder, such as `hydra.sweep.dir`. Raises ValueError where another process uses
    the folder, and OSError where it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK).open("w")
    _HELD.append(file)
    # Without locks, only the folder's name keeps commands apart.
    with suppress(NoLocksError):
        if not lock(file.fileno(), wait=False):
            _HELD.pop().close()
            raise ValueError(
                f"{setting} must be a folder in which no other command is at work, got {folder}: wait for that one, or "
                f"leave {setting} out for a new folder"
            )
