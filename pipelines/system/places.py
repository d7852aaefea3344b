"""The folders of opscore, installed or in a checkout."""

import os
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# None where opscore is installed without its sources.
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None


def expanded(path: str | Path) -> Path:
    """The path with the home folder for `~`. One that only begins with `~`, such as a file `~old`, stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path's own raises where there is no such user)


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; False below a folder that may not be entered, where Path's own raises."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; False below a folder that may not be entered, where Path's own raises."""
    return os.path.isdir(path)  # noqa: PTH112


def new_folder(parent: Path, name: str, *, taken: Callable[[Path], bool] = lambda _: False) -> Path:
    """Make a folder in `parent`, with a number behind its name where there is one of this name, or it is `taken`."""
    for number in count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        if not taken(folder):
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
    raise AssertionError("the numbers have no end")


def nearest_existing(path: Path) -> Path:
    """The path itself, or the closest folder above it that exists."""
    return next(one for one in (path, *path.absolute().parents) if exists(one))
