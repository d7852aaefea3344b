"""Other Python processes with opscore's own modules, whatever packages the working folder holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

# Where this package is found: the checkout, or the environment's packages.
ROOT = str(Path(__file__).resolve().parents[2])


def command(module: str, *arguments: str) -> list[str]:
    """`python -m <module> <arguments>`, which does not search the working folder by itself."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(variables: Mapping[str, str], *last: Path) -> dict[str, str]:
    """Variables for `command`. last: folders that are searched for modules after all given ones."""
    places = [ROOT, variables.get("PYTHONPATH", ""), *map(str, last)]
    return {**variables, "PYTHONPATH": os.pathsep.join(filter(None, places))}
