"""Write the chosen cells as one HTML file, and its figures as PNG: `opscore report`, or `make report`.

  opscore report                      all finished cells of the experiment, into report/
  opscore report --sweep last         those of the newest sweep, or --sweep <run id>
  opscore report --dataset cifar10 --out /tmp/cifar10

The options choose cells as in `opscore compare`. Open <out>/report.html in a browser; it needs no network.
"""

from __future__ import annotations

from pathlib import Path

import click

from pipelines.commands import arguments, selection
from pipelines.commands.selection import Selection
from pipelines.system import runtime


@click.command("report", cls=arguments.WordCommand, help=__doc__)
@selection.options
@arguments.setting("--out", metavar="FOLDER", default="report", show_default=True, help="Where the report goes.")
def command(chosen: Selection, out: str) -> None:
    """Write the report of the chosen cells."""
    # Here, because Matplotlib and MLflow take seconds to load, and a refusal should not.
    from pipelines.report.page import write
    from pipelines.tracking.registry import Registry

    runtime.relax_gc()
    folder = Path(out)
    store = chosen.store()
    read = Registry(store.uri, store.client).predictions
    page, *figures = write(chosen.cells(store), folder, chosen=str(chosen), predictions_of=read)
    print(f"{page}\n{len(figures)} figures as PNG in {folder}")
