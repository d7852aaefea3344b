"""All recorded cells in one table, the fittest first: `python -m pipelines.report` or `make report`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence

from pipelines import tracking
from pipelines.summary import aligned

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


def table(cells: Sequence[tracking.RecordedCell]) -> str:
    """Cells as an aligned text table, by falling score; what a cell does not have is a dash."""
    ordered = sorted(cells, key=lambda cell: -cell.metrics.get("score/operational", -math.inf))
    rows = [["cell", "seed", *(heading for heading, _, _ in COLUMNS), "feasible", "run"]]
    for cell in ordered:
        shown = [_shown(cell, column) for column in COLUMNS]
        rows.append([cell.name, cell.seed, *shown, cell.feasible, cell.run_id[:8]])
    return aligned(rows)


def main() -> None:
    """Print the table of the chosen store and experiment."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.report", description=__doc__)
    parser.add_argument("--tracking-uri", help="default: MLFLOW_TRACKING_URI, else mlruns/mlflow.db")
    parser.add_argument("--experiment", default="opscore", help="default: %(default)s")
    parser.add_argument("--dataset", help="only the cells of this dataset")
    arguments = parser.parse_args()
    uri = tracking.tracking_uri(arguments.tracking_uri)
    try:
        tracking.check_reachable(uri)
    except (ValueError, OSError) as error:
        sys.exit(f"opscore: {error}")
    cells = tracking.Store(uri, arguments.experiment).finished_cells(arguments.dataset)
    if not cells:
        sys.exit(f"opscore: no finished cell in experiment {arguments.experiment!r} of {uri}: run one with `make run`")
    print(table(cells))


def _shown(cell: tracking.RecordedCell, column: tuple[str, str, str]) -> str:
    _, name, form = column
    value = cell.metrics.get(name)
    if value is None:
        return "-"
    return form.format(value / 1e3 if name.startswith("size/") else value)


if __name__ == "__main__":
    main()
