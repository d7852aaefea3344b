"""Where opscore is, installed or in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# None where opscore was installed and is not developed.
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "pyproject.toml").is_file() else None
