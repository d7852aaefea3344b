"""The folders of opscore, installed or in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# None where opscore is installed without its sources.
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None


def nearest_existing(path: Path) -> Path:
    """The path itself, or the closest folder above it that exists."""
    return next(one for one in (path, *path.absolute().parents) if one.exists())
