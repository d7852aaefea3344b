"""Recorded cells beside each other, the fittest first: `python -m pipelines.compare` or `make compare`.

  python -m pipelines.compare                     all finished cells of the experiment
  python -m pipelines.compare sweep=last          those of the newest sweep, or sweep=<run id>
  python -m pipelines.compare dataset=cifar10 filter="params.`model.input_size` = '64'"

An = marks cells whose score cannot be told from the winner's, P those on the Pareto front over accuracy, test time and
compressed size. "first" is the share of all weights of the four criteria under which a cell ranks first.

With --into, the tables of a markdown file are written anew instead: what stands between the lines
`<!-- cells model=<model> dataset=<dataset> -->` and `<!-- end -->`. More conditions on the configuration, such as
model.input_size=64, may follow.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.commands import arguments
from pipelines.comparison import article
from pipelines.comparison.entries import BASELINE, Comparison, Entry, compare
from pipelines.comparison.notes import notes
from pipelines.comparison.pages import rewrite
from pipelines.results import columns
from pipelines.results.recorded import RecordedCell
from pipelines.results.summary import aligned
from pipelines.system import guard, runtime
from pipelines.system.errors import StoreError
from pipelines.tracking.address import check_reachable, tracking_uri
from pipelines.tracking.store import Store

# Columns before and after the accuracy's interval.
BEFORE = (columns.SCORE, columns.GAIN, *columns.GAINS.values(), columns.ACCURACY)
AFTER = (columns.TEST_MS, columns.TRAIN_S, columns.FILE, columns.COMPRESSED, columns.IMPROVED)
SELECTION: dict[str, str | None] = {
    "dataset": None,
    "sweep": None,
    "filter": None,
    "experiment": "opscore",
    "tracking.uri": None,
}


def selected(words: Sequence[str]) -> list[RecordedCell]:
    """The finished cells that the arguments `name=value` choose.

    Raises ValueError, OSError or StoreError with one sentence where they cannot be had, or there are none.
    """
    given = arguments.settings(words, SELECTION)
    uri, experiment = tracking_uri(given["tracking.uri"]), given["experiment"] or "opscore"
    check_reachable(uri)
    store = Store.existing(uri, experiment)
    cells = store.finished_cells(given["dataset"], condition=given["filter"])
    if given["sweep"]:
        parent = store.newest_sweep() if given["sweep"] == "last" else given["sweep"]
        of_sweep = set(store.cells_of_sweep(parent))
        cells = [cell for cell in cells if cell.run_id in of_sweep]
    if not cells:
        chosen = " ".join(f"{name}={value}" for name, value in given.items() if value and name != "tracking.uri")
        raise ValueError(
            f"no finished cell in {uri} matches {chosen}: run one with `make run`, or choose less narrowly"
        )
    return cells


def text(comparison: Comparison) -> str:
    """A comparison as a table for the terminal, with what is to be said about it below."""
    heading = ["cell", "", "seeds", *(column.heading for column in BEFORE), "95%"]
    heading += [*(column.heading for column in AFTER), columns.FIRST.heading, "run"]
    rows = [heading, *(_row(entry, comparison) for entry in comparison.entries)]
    lines = [f"{comparison.dataset}: {len(comparison.entries)} cells", aligned(rows), *notes(comparison)]
    return "\n".join(lines)


@guard.command
def main() -> None:
    """Print the comparison of the chosen cells, or write a file's tables anew."""
    runtime.collect_seldom()
    parser = arguments.parser("python -m pipelines.compare", __doc__ or "", SELECTION)
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="a markdown file whose marked tables are written anew"
    )
    given = parser.parse_args()
    try:
        cells = selected(given.settings)
        if given.into is not None:
            given.into.write_text(rewrite(given.into.read_text(), cells))
            return
    except (ValueError, OSError, StoreError) as error:
        sys.exit(f"opscore: {error}")
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
        *map(entry.shown, BEFORE),
        "-" if math.isnan(low) else f"{low:.1%} to {high:.1%}",
        *map(entry.shown, AFTER),
        columns.FIRST.text(comparison.first.get(entry.label)),
        entry.runs[-1].run_id[:8],
    ]
