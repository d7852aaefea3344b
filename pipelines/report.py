"""All recorded cells in one table, the fittest first: `python -m pipelines.report` or `make report`.

With --into, the tables of a markdown file are written anew instead: what stands between the lines
`<!-- cells model=<model> dataset=<dataset> -->` and `<!-- end -->`. More conditions on the configuration, such as
model.input_size=64, may follow.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.summary import aligned
from pipelines.tracking.address import check_reachable, tracking_uri
from pipelines.tracking.store import RecordedCell, Store

COLUMNS = (
    # heading, MLflow name, how to show it
    ("score dB", "score/operational", "{:.2f}"),
    ("gain dB", "score/gain_db", "{:+.2f}"),
    ("accuracy", "test/accuracy", "{:.2%}"),
    ("test ms", "time/test_ms_p50", "{:.3f}"),
    ("train s", "time/train_total_s", "{:.1f}"),
    ("file kB", "size/file_bytes", "{:.1f}"),
    ("packed kB", "size/compressed_bytes", "{:.1f}"),
    ("better in", "baseline/dimensions_improved", "{:.0f} of 3"),
)


def table(cells: Sequence[RecordedCell]) -> str:
    """Cells as an aligned text table, by falling score; what a cell does not have is a dash."""
    ordered = sorted(cells, key=lambda cell: -cell.metrics.get("score/operational", -math.inf))
    rows = [["cell", "seed", *(heading for heading, _, _ in COLUMNS), "feasible", "run"]]
    for cell in ordered:
        shown = [_shown(cell, column) for column in COLUMNS]
        rows.append([cell.name, cell.seed, *shown, cell.feasible, cell.run_id[:8]])
    return aligned(rows)


_PLACE = re.compile(r"(<!-- cells model=(\S+) dataset=(\S+)((?: \S+=\S+)*) -->\n).*?(<!-- end -->)", re.DOTALL)


def markdown(cells: Sequence[RecordedCell]) -> str:
    """The newest cell of each technique and source as a markdown table, by falling gain, the baseline first."""
    newest: dict[tuple[str, str], RecordedCell] = {}
    for cell in sorted(cells, key=lambda cell: cell.started):
        newest[cell.technique, cell.source] = cell
    ordered = sorted(newest.values(), key=lambda cell: -cell.metrics.get("score/gain_db", math.inf))
    lines = [
        "| technique | " + " | ".join(heading for heading, _, _ in COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for cell in ordered:
        name = f"`{cell.technique}`" + (f" from `{cell.source}`" if cell.source else "")
        lines.append(f"| {name} | " + " | ".join(_shown(cell, column) for column in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def rewrite(text: str, cells: Sequence[RecordedCell]) -> str:
    """`text` with its marked tables made anew. Raises ValueError where it has no mark, or a mark has no cell."""

    def table_of(found: re.Match[str]) -> str:
        begin, model, dataset, more, end = found.groups()
        conditions = dict(condition.split("=", 1) for condition in more.split())
        chosen = [
            cell
            for cell in cells
            if (cell.model, cell.dataset) == (model, dataset) and conditions.items() <= cell.params.items()
        ]
        if not chosen:
            asked = f"model={model} dataset={dataset}{more}"
            raise ValueError(f"a table asks for {asked}, of which no finished cell is recorded")
        return begin + markdown(chosen) + end

    written, count = _PLACE.subn(table_of, text)
    if not count:
        raise ValueError("the file must hold a line <!-- cells model=<model> dataset=<dataset> --> and <!-- end -->")
    return written


def main() -> None:
    """Print the table of the chosen store and experiment, or write a file's tables anew."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tracking-uri", help="default: MLFLOW_TRACKING_URI, else mlruns/mlflow.db")
    parser.add_argument("--experiment", default="opscore", help="default: %(default)s")
    parser.add_argument("--dataset", help="only the cells of this dataset")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="a markdown file whose marked tables are written anew"
    )
    arguments = parser.parse_args()
    uri = tracking_uri(arguments.tracking_uri)
    try:
        check_reachable(uri)
    except (ValueError, OSError) as error:
        sys.exit(f"opscore: {error}")
    cells = Store(uri, arguments.experiment).finished_cells(arguments.dataset)
    if not cells:
        sys.exit(f"opscore: no finished cell in experiment {arguments.experiment!r} of {uri}: run one with `make run`")
    if arguments.into is None:
        print(table(cells))
        return
    try:
        arguments.into.write_text(rewrite(arguments.into.read_text(), cells))
    except (ValueError, OSError) as error:
        sys.exit(f"opscore: {arguments.into}: {error}")


def _shown(cell: RecordedCell, column: tuple[str, str, str]) -> str:
    _, name, form = column
    value = cell.metrics.get(name)
    if value is None:
        return "-"
    return form.format(value / 1e3 if name.startswith("size/") else value)


if __name__ == "__main__":
    main()
