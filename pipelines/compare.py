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

from pipelines import arguments, article, guard, runtime
from pipelines.comparison import BASELINE, CRITERIA, Comparison, Entry, compare, shown
from pipelines.pages import rewrite
from pipelines.summary import aligned
from pipelines.tracking.address import check_reachable, tracking_uri
from pipelines.tracking.cell_run import StoreError
from pipelines.tracking.store import RecordedCell, Store

SELECTION: dict[str, str | None] = {
    "dataset": None,
    "sweep": None,
    "filter": None,
    "experiment": "opscore",
    "tracking.uri": None,
}


NONE_IN_BUDGET = "No cell keeps the budgets of its score profile."


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
    heading = [
        "cell",
        "",
        "seeds",
        "score dB",
        "gain dB",
        *(f"of {name}" for name in ("accuracy", "size", "test", "train")),
    ]
    heading += ["accuracy", "95%", "test ms", "train s", "file kB", "packed kB", "better in", "first", "run"]
    rows = [heading, *(_row(entry, comparison) for entry in comparison.entries)]
    lines = [f"{comparison.dataset}: {len(comparison.entries)} cells", aligned(rows), *notes(comparison)]
    return "\n".join(lines)


def notes(comparison: Comparison) -> list[str]:
    """What follows from a comparison, a sentence each."""
    winner = comparison.winner
    uninformed = [f"{entry.label} is {entry.uninformed}." for entry in comparison.entries if entry.uninformed]
    if winner is None:
        kept = any(entry.feasible for entry in comparison.entries)
        reason = "No cell has learnt enough to be the fittest." if kept else NONE_IN_BUDGET
        return [reason, *uninformed]
    said = [f"Fittest: {winner.label}, {winner.score.value:.2f} dB.", *uninformed]
    others = sorted(comparison.tied - {winner.label})
    if others:
        said.append(f"Its score cannot be told from that of {', '.join(others)}.")
    changing = [move for move in comparison.moves if not math.isnan(move.after)]
    for move in changing:
        said.append(
            f"With score.{move.criterion} {'above' if move.after > move.before else 'below'} {move.after:.3g} instead "
            f"of {move.before:g}, {move.winner} would lead."
        )
    if not changing and len(comparison.entries) > 1:
        said.append("No change of one exponent alone would let another cell lead.")
    if len(comparison.hardware) > 1:
        said.append(
            f"Times are from {len(comparison.hardware)} machines and do not compare across them "
            f"({'; '.join(comparison.hardware)}): choose one with filter=\"tags.hardware = '...'\"."
        )
    mixed = [entry.label for entry in comparison.entries if entry.mixed]
    if mixed:
        said.append(f"Seeds of {', '.join(mixed)} were timed on different machines, so their times are not averaged.")
    tests = {(run.digest, run.test_images) for entry in comparison.entries for run in entry.runs}
    if len(tests) > 1:
        counts = ", ".join(f"{images:,}" for images in sorted({images for _, images in tests}))
        said.append(
            f"The cells were tested on {len(tests)} different sets of images ({counts} images), between which "
            "accuracies and scores do not compare: choose one with "
            f"filter=\"dataset.digest = '{max(tests, key=lambda one: one[1])[0]}'\" or the like."
        )
    if any(len(entry.runs) == 2 for entry in comparison.entries):
        said.append(
            "Two seeds have one difference between them, so that intervals over them are very wide: three or more "
            "narrow them, seed=0,1,2 for example."
        )
    infeasible = sum(not entry.feasible for entry in comparison.entries)
    if infeasible:
        said.append(f"{infeasible} cells break a budget of their score profile and cannot be the fittest.")
    return said


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
        shown(entry.score, "{:.2f}"),
        shown(entry.gain, "{:+.2f}"),
        *(f"{entry.gains[name]:+.2f}" if entry.gains else "-" for name in CRITERIA),
        shown(entry.accuracy, "{:.2%}"),
        "-" if math.isnan(low) else f"{low:.1%} to {high:.1%}",
        shown(entry.test_ms, "{:.3f}"),
        shown(entry.train_s, "{:.1f}"),
        shown(entry.file_bytes, "{:.1f}", 1e-3),
        shown(entry.compressed_bytes, "{:.1f}", 1e-3),
        "-" if entry.improved is None else f"{entry.improved} of 3",
        f"{comparison.first[entry.label]:.0%}" if entry.label in comparison.first else "-",
        entry.runs[-1].run_id[:8],
    ]


if __name__ == "__main__":
    main()
