"""Compare recorded cells, the fittest first: `opscore compare`, or `make compare`.

  opscore compare                     all finished cells of the experiment
  opscore compare --sweep last        those of the newest sweep, or --sweep <run id>
  opscore compare --dataset cifar10 --filter 'params."model.input_size" = "64"'

= marks cells whose score does not differ significantly from the winner's, P those on the Pareto front over accuracy,
test time and compressed size. "first" is the share of all weights of the four criteria under which a cell ranks first.

With --into, the command rewrites the tables of a markdown file instead: everything between the lines
`<!-- cells model=<model> dataset=<dataset> -->` and `<!-- end -->`. Further conditions on the configuration, such as
model.input_size=64, may follow the dataset.
"""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines.commands import arguments, selection
from pipelines.commands.selection import Selection
from pipelines.comparison import article, shortlist_text
from pipelines.comparison.entries import BASELINE, Entry
from pipelines.comparison.notes import notes
from pipelines.comparison.pages import rewrite
from pipelines.comparison.ranking import Comparison, compare
from pipelines.comparison.shortlist import shortlist
from pipelines.results import columns
from pipelines.results.tables import aligned
from pipelines.system import runtime

if TYPE_CHECKING:
    from pipelines.results.recorded import PredictionsOf

PROSE_COLUMNS = 100
# Columns before and after the accuracy's interval.
BEFORE = (columns.SCORE, columns.GAIN, *columns.GAINS.values(), columns.ACCURACY)
AFTER = (columns.TEST_MS, columns.TRAIN_S, columns.FILE, columns.COMPRESSED, columns.IMPROVED)


def text(comparison: Comparison, predictions_of: PredictionsOf | None = None) -> str:
    """A comparison for the terminal: the shortlist, the table of all cells, and notes."""
    listed = shortlist(comparison, predictions_of)
    heading = ["cell", "settings", "", "seeds", *(column.heading for column in BEFORE), "95%"]
    heading += [*(column.heading for column in AFTER), columns.FIRST.heading, "run"]
    rows = [heading, *(_row(entry, comparison) for entry in comparison.entries)]
    settings = any(entry.settings for entry in comparison.entries)
    rows = rows if settings else [[row[0], *row[2:]] for row in rows]
    lines = [f"{comparison.dataset}: {len(comparison.entries)} cells"]
    lines += ["", shortlist_text.text(listed), ""] if listed else []
    return "\n".join([*lines, aligned(rows, left=2 if settings else 1), *map(_wrapped, notes(comparison))])


@click.command("compare", cls=arguments.WordCommand, help=__doc__)
@selection.options
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="FILE", help="A markdown file whose marked tables are rewritten."
)
def command(chosen: Selection, into: Path | None) -> None:
    """Print the comparison of the chosen cells, or rewrite a file's tables."""
    # It loads MLflow, which a refused argument should not wait for.
    from pipelines.tracking.registry import Registry

    runtime.relax_gc()
    store = chosen.store()
    cells = chosen.cells(store)
    if into is not None:
        into.write_text(rewrite(into.read_text(), cells))
        return
    comparisons, registry = compare(cells), Registry(store.uri, store.client)
    for comparison in comparisons:
        print(text(comparison, registry.predictions), end="\n\n")
        if any(entry.technique != BASELINE for entry in comparison.entries):
            print(article.table(comparison))
    print(f"{_wrapped(article.RULE)}\n\n{_wrapped(article.claims(comparisons))}")


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, PROSE_COLUMNS, break_long_words=False, break_on_hyphens=False)


def _row(entry: Entry, comparison: Comparison) -> list[str]:
    marks = ("=" if entry.label in comparison.tied else "") + ("P" if entry.label in comparison.front else "")
    low, high = entry.accuracy.low, entry.accuracy.high
    return [
        entry.name + ("" if entry.feasible else " (not feasible)") + (" (nothing learnt)" if entry.uninformed else ""),
        entry.settings,
        marks,
        str(len(entry.runs)),
        *map(entry.format_estimate, BEFORE),
        "-" if math.isnan(low) else f"{low:.1%} to {high:.1%}",
        *map(entry.format_estimate, AFTER),
        columns.FIRST.text(comparison.rank_acceptability.get(entry.label)),
        entry.runs[-1].run_id[:8],
    ]
