"""Where opscore is, installed or in a checkout, and where something could be made."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# None where opscore was installed and is not developed.
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None


def nearest_existing(path: Path) -> Path:
    """The path itself, or the closest folder above it that is there."""
    return next(one for one in (path, *path.absolute().parents) if one.exists())
