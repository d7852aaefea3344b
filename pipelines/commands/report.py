"""Write the chosen cells as one HTML file, and its figures as PNG: `opscore report`, or `make report`.

  opscore report                      all finished cells of the experiment, into report/
  opscore report --sweep last         those of the newest sweep, or --sweep <run id>
  opscore report --dataset cifar10 --out /tmp/cifar10

The options choose cells, and a device with --target, as in `opscore compare`. Open <out>/report.html in a browser; it
needs no network.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from pipelines.commands import arguments, selection
from pipelines.commands.selection import Selection
from pipelines.comparison.on_device import Device


@click.command("report", cls=arguments.WordCommand, help=__doc__)
@selection.options
@selection.on_device
@arguments.OUT(default="report", show_default=True, help="Where the report goes.")
def command(chosen: Selection, device: Device | None, out: Path) -> None:
    """Write the report of the chosen cells."""
    # Here, because Matplotlib and MLflow take seconds to load, and a refusal should not.
    from pipelines.comparison.ranking import compare
    from pipelines.comparison.shortlist import shortlisted
    from pipelines.report.page import write

    store = chosen.store()
    found = chosen.timed(store, device)
    # The page is read when another sweep is the last.
    fixed = replace(chosen, dataset=None, sweep=store.newest_sweep() if chosen.sweep == "last" else chosen.sweep)
    page, *figures = write(
        shortlisted(compare(found.cells), store.right),
        out,
        chosen=chosen.words(device),
        options=f"{device.options if device else ''}{fixed.options}",
        on_device=found.notes,
    )
    print(*found.notes, sep="\n", end="\n" if found.notes else "")
    print(f"{page}\n{len(figures)} figures as PNG in {out}")
