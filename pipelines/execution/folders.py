"""A command's folder, which no other command may use at the same time."""

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
    try:
        is_free = lock(file.fileno(), wait=False)
    except NoLocksError:
        is_free = True  # only the folder's name keeps commands apart
    if not is_free:
        file.close()
        raise ValueError(
            f"{setting} must be a folder in which no other command is at work, got {folder}: wait for that one, or "
            f"leave {setting} out for a new folder"
        )
    _HELD.append(file)
