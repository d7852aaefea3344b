"""The chosen cells as one HTML file and its figures as PNG: `python -m pipelines.report` or `make report`.

  python -m pipelines.report                      all finished cells of the experiment, into report/
  python -m pipelines.report sweep=last           those of the newest sweep, or sweep=<run id>
  python -m pipelines.report dataset=cifar10 out=/tmp/cifar10

The cells are chosen as by `python -m pipelines.compare`. Open <out>/report.html in a browser; it needs no network.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines.commands import arguments
from pipelines.commands.compare import SELECTION, selected
from pipelines.report.page import write
from pipelines.system import guard, runtime
from pipelines.system.errors import StoreError

SETTINGS = {**SELECTION, "out": "report"}


@guard.command
def main() -> None:
    """Write the report of the chosen cells."""
    runtime.collect_seldom()
    words = arguments.parser("python -m pipelines.report", __doc__ or "", SETTINGS).parse_args().settings
    try:
        given = arguments.settings(words, SETTINGS)
        folder = Path(given.pop("out") or "report")
        cells = selected([f"{name}={value}" for name, value in given.items() if value])
        # A store's address may hold a password.
        chosen = [f"{name}={value}" for name, value in given.items() if value and name != "tracking.uri"]
        page, *figures = write(cells, folder, chosen=" ".join(chosen))
    except (ValueError, OSError, StoreError) as error:
        sys.exit(f"opscore: {error}")
    print(f"{page}\n{len(figures)} figures as PNG in {folder}")
