"""The folders of opscore, installed or in a checkout."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# None where opscore is installed without its sources.
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None


def expanded(path: str | Path) -> Path:
    """The path with the home folder for `~`. One that only begins with `~`, such as a file `~old`, stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path's own raises where there is no such user)


def nearest_existing(path: Path) -> Path:
    """The path itself, or the closest folder above it that exists."""
    return next(one for one in (path, *path.absolute().parents) if os.path.exists(one))  # noqa: PTH110 (`exists` raises below a folder that may not be entered)
