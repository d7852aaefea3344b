"""Compare recorded cells, that of the highest score first: `opscore compare`, or `make compare`.

  opscore compare                     all finished cells of the experiment
  opscore compare --sweep last        those of the newest sweep, or --sweep <run id>
  opscore compare --dataset cifar10 --filter 'params."model.input_size" = "64"'

A narrow terminal shows the columns that decide. --wide shows all columns, and what holds of the claims of the article
behind opscore; so does a pipe or a file.

With --target, times are those that `opscore measure` took on that device, each cell's on the runtime that is fastest
there, and scores, ratios and budgets are computed from them.

  opscore compare --target kitchen-pi --runtime litert --threads 4      chooses one setting

= marks cells whose score does not differ significantly from the winner's, P those on the Pareto front over accuracy,
test time and compressed size. "first" is the share of all weights of the four criteria under which a cell ranks first.

With --into, the command writes a row for each cell into a .csv file, or rewrites the tables of a markdown file:
everything between the lines `<!-- cells model=<model> dataset=<dataset> -->` and `<!-- end -->`. Further conditions on
the configuration, such as model.input_size=64, may follow the dataset.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines.commands import arguments, selection
from pipelines.commands.selection import Selection
from pipelines.comparison import article, exported, shortlist_text
from pipelines.comparison.entries import Entry
from pipelines.comparison.notes import notes
from pipelines.comparison.on_device import Device, hint
from pipelines.comparison.pages import rewrite_file
from pipelines.comparison.ranking import Comparison, compare
from pipelines.comparison.shortlist import shortlist
from pipelines.results import columns
from pipelines.results.tables import TextColumn, fitted, wrapped
from pipelines.system import terminal
from pipelines.system.guard import MisuseError
from pipelines.system.words import number_of

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RightOf

MARKS = "=: its score is tied with the best. P: no other cell is as accurate, as fast and as small."
# The columns of figures, with the rank by which a narrow table leaves them out.
COLUMNS = (
    (columns.SCORE, 0),
    (columns.ACCURACY, 0),
    (columns.TEST_MS, 0),
    (columns.COMPRESSED, 0),
    (columns.GAIN, 1),
    (columns.TRAIN_S, 3),
    (columns.IMPROVED, 4),
    (columns.FILE, 6),
    *((column, 9) for column in columns.GAINS.values()),
)


def text(comparison: Comparison, right_of: RightOf | None = None, *, width: float = terminal.UNLIMITED) -> str:
    """A comparison for a terminal of `width` columns: the shortlist, the table of all cells, and notes."""
    listed, count = shortlist(comparison, right_of), len(comparison.entries)
    lines = [wrapped(f"{comparison.title}: {number_of(count, 'cell')}", width)]
    lines += ["", shortlist_text.text(listed, width=width), ""] if listed else []
    return "\n".join(
        [
            *lines,
            _table(comparison, width),
            wrapped(MARKS, width),
            "",
            *(wrapped(note, width) for note in notes(comparison)),
        ]
    )


def _table(comparison: Comparison, width: float) -> str:
    entries = comparison.entries
    figures = [
        TextColumn(heading=column.heading, texts=[entry.format_estimate(column) for entry in entries], rank=rank)
        for column, rank in COLUMNS
    ]
    first = [columns.FIRST.text(comparison.rank_acceptability.get(entry.label)) for entry in entries]
    table = [
        TextColumn(heading="model", texts=[entry.model for entry in entries], left=True),
        TextColumn(heading="technique", texts=[_technique(entry) for entry in entries], left=True),
        TextColumn(heading="settings", texts=[entry.short_settings for entry in entries], left=True),
        *shortlist_text.runtimes(entries),
        TextColumn(heading="", texts=[_marks(entry, comparison) for entry in entries], left=True),
        *figures[:2],
        TextColumn(heading="95%", texts=[entry.format_interval() for entry in entries], rank=2),
        *figures[2:],
        TextColumn(heading=columns.FIRST.heading, texts=first, rank=8),
        TextColumn(heading="seeds", texts=[str(len(entry.runs)) for entry in entries], rank=7),
        TextColumn(heading="run", texts=[entry.runs[-1].run_id[:8] for entry in entries], rank=5),
        *_times(entries),
    ]
    return fitted(table, width)


def _times(entries: Sequence[Entry]) -> list[TextColumn]:
    """The time on each runtime of a device, and the share of images with LiteRT's class."""
    runtimes = sorted({name for entry in entries for one in entry.devices for name in one.times_ms})
    if len(runtimes) < 2:
        return []
    form = columns.TEST_MS.text
    agreements = [entry.agreement for entry in entries]
    return [
        *(
            TextColumn(heading=f"{name} ms", texts=[form(entry.ms_on(name)) for entry in entries], rank=6)
            for name in runtimes
        ),
        TextColumn(heading="same class", texts=[columns.ACCURACY.text(one) for one in agreements], rank=6),
    ]


def _technique(entry: Entry) -> str:
    remarks = ("" if entry.feasible else " (not feasible)") + (" (nothing learnt)" if entry.uninformed else "")
    return entry.optimized_with + remarks


def _marks(entry: Entry, comparison: Comparison) -> str:
    return ("=" if entry.label in comparison.ties else "") + ("P" if entry.label in comparison.front else "")


def _check_target(into: Path) -> None:
    """Raise MisuseError for a file that can neither be written as csv nor is there to have its tables rewritten."""
    if into.suffix.lower() != ".csv" and not into.is_file():
        raise MisuseError(
            f"into must be a new .csv file, or a markdown file that is there, got {into}: set for example "
            f"--into {shlex.quote(str(into / 'cells.csv' if into.is_dir() else into.with_suffix('.csv')))}"
        )
    if not into.parent.is_dir():
        raise MisuseError(
            f"into must be in a folder that is there, got {into}: `mkdir -p {shlex.quote(str(into.parent))}`"
        )


@click.command("compare", cls=arguments.WordCommand, help=__doc__)
@selection.options
@selection.on_device
@click.option(
    "--into",
    type=arguments.Location(),
    metavar="FILE",
    help="A .csv file to write, or a markdown file whose marked tables are rewritten.",
)
@arguments.WIDE()
def command(chosen: Selection, device: Device | None, into: Path | None, width: float) -> None:
    """Print the comparison of the chosen cells, or rewrite a file's tables."""
    if into is not None:
        _check_target(into)
    store = chosen.store()
    found = chosen.timed(store, device)
    cells = found.cells
    if into is not None:
        if into.suffix.lower() == ".csv":
            content = exported.text(compare(cells), store.right)
            into.write_text(content, encoding="utf-8")
            what = f"{len(content.splitlines()) - 1} rows"
        else:
            rewrite_file(into, cells)
            what = "its tables"
        for note in found.notes:
            print(wrapped(note, width), file=sys.stderr)
        print(f"{into}: {what} written")
        return
    if found.notes:
        print("\n".join(wrapped(note, width) for note in found.notes), end="\n\n")
    comparisons = compare(cells)
    for comparison in comparisons:
        print(text(comparison, store.right, width=width), end="\n\n")
        if marks := article.table(comparison, width=width):
            legend = "" if width == terminal.UNLIMITED else f"\n{wrapped(article.LEGEND, width)}"
            print(f"{marks}{legend}\n")
    if device is None and (devices := hint(cells)):
        print(wrapped(devices, width), end="\n\n")
    if width == terminal.UNLIMITED:
        claims = " ".join(article.claims(one.entries for one in comparisons))
        print(f"{wrapped(article.RULE, width)}\n\n{wrapped(claims, width)}")
