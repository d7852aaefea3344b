"""Compare recorded cells, the fittest first: `opscore compare`, or `make compare`.

  opscore compare                     all finished cells of the experiment
  opscore compare --sweep last        those of the newest sweep, or --sweep <run id>
  opscore compare --dataset cifar10 --filter "params.`model.input_size` = '64'"

= marks cells whose score does not differ significantly from the winner's, P those on the Pareto front over accuracy,
test time and compressed size. "first" is the share of all weights of the four criteria under which a cell ranks first.

With --into, the command rewrites the tables of a markdown file instead: everything between the lines
`<!-- cells model=<model> dataset=<dataset> -->` and `<!-- end -->`. Further conditions on the configuration, such as
model.input_size=64, may follow the dataset.
"""

from __future__ import annotations

import math
from pathlib import Path

import click

from pipelines.commands import arguments, selection
from pipelines.commands.selection import Selection
from pipelines.comparison import article
from pipelines.comparison.entries import BASELINE, Entry
from pipelines.comparison.notes import notes
from pipelines.comparison.pages import rewrite
from pipelines.comparison.ranking import Comparison, compare
from pipelines.results import columns
from pipelines.results.tables import aligned
from pipelines.system import runtime

# Columns before and after the accuracy's interval.
BEFORE = (columns.SCORE, columns.GAIN, *columns.GAINS.values(), columns.ACCURACY)
AFTER = (columns.TEST_MS, columns.TRAIN_S, columns.FILE, columns.COMPRESSED, columns.IMPROVED)


def text(comparison: Comparison) -> str:
    """A comparison as a table for the terminal, with notes below."""
    heading = ["cell", "", "seeds", *(column.heading for column in BEFORE), "95%"]
    heading += [*(column.heading for column in AFTER), columns.FIRST.heading, "run"]
    rows = [heading, *(_row(entry, comparison) for entry in comparison.entries)]
    lines = [f"{comparison.dataset}: {len(comparison.entries)} cells", aligned(rows), *notes(comparison)]
    return "\n".join(lines)


@click.command("compare", cls=arguments.WordCommand, help=__doc__)
@selection.options
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="FILE", help="A markdown file whose marked tables are rewritten."
)
def command(chosen: Selection, into: Path | None) -> None:
    """Print the comparison of the chosen cells, or rewrite a file's tables."""
    runtime.relax_gc()
    cells = chosen.cells()
    if into is not None:
        into.write_text(rewrite(into.read_text(), cells))
        return
    comparisons = compare(cells)
    for comparison in comparisons:
        print(text(comparison), end="\n\n")
        if any(entry.technique != BASELINE for entry in comparison.entries):
            print(article.table(comparison))
    print(article.claims(comparisons))


def _row(entry: Entry, comparison: Comparison) -> list[str]:
    marks = ("=" if entry.label in comparison.tied else "") + ("P" if entry.label in comparison.front else "")
    low, high = entry.accuracy.low, entry.accuracy.high
    return [
        entry.label + ("" if entry.feasible else " (not feasible)") + (" (nothing learnt)" if entry.uninformed else ""),
        marks,
        str(len(entry.runs)),
        *map(entry.format_estimate, BEFORE),
        "-" if math.isnan(low) else f"{low:.1%} to {high:.1%}",
        *map(entry.format_estimate, AFTER),
        columns.FIRST.text(comparison.rank_acceptability.get(entry.label)),
        entry.runs[-1].run_id[:8],
    ]
