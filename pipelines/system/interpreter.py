"""Other Python processes with opscore's own modules, whatever packages the working folder holds."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from pipelines.system.places import PACKAGE

# Where this package is found: the checkout, or the environment's packages.
ROOT = str(PACKAGE.parent)


def command(module: str, *arguments: str) -> list[str]:
    """`python -m <module> <arguments>`, which does not search the working folder by itself."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables for `command`.

    An installed opscore is found without them, and PYTHONPATH comes before Python's own modules: the packages next to
    it must not.
    """
    if ROOT in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        return dict(variables)
    return {**variables, "PYTHONPATH": os.pathsep.join(filter(None, (ROOT, variables.get("PYTHONPATH", ""))))}


def search_working_folder() -> None:
    """Let Python find modules in the working folder, as `python -m` does and the console command does not."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
