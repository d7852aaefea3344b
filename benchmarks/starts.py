"""Cells of a sweep as copies of a server that has the libraries, against a new interpreter for each.

    python -m benchmarks.starts [--seeds 4] [--repeats 3]

Both run the command as a user does, with a new store each time, whose schema is made before the clock starts. The last
column, seconds from a cell's request to its work, shows which way was taken.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.turns import take_turns

ROOT = Path(__file__).resolve().parents[1]
NEW = "from pipelines.system import fork_server; fork_server._is_safe = lambda: False"
WAYS = {"copies": "pass", "new interpreters": NEW}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="cells of a sweep; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    taken = take_turns({way: partial(_sweep, first, arguments.seeds) for way, first in WAYS.items()}, arguments.repeats)
    best = {way: min(seconds for seconds, _ in all_taken) for way, all_taken in taken.items()}
    print(f"| {arguments.seeds} cells as | sweep | ratio | start of a later cell, median |\n|---|---|---|---|")
    for way, all_taken in taken.items():
        start = statistics.median(one for _, starts in all_taken for one in starts)
        print(f"| {way} | {best[way]:.1f} s | x {best[way] / best['new interpreters']:.2f} | {start:.2f} s |")


def _sweep(first: str, seeds: int) -> tuple[float, list[float]]:
    """Seconds of a sweep, and of the start of each of its cells but the first."""
    import mlflow

    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        client = mlflow.MlflowClient(uri)
        experiment = client.create_experiment("starts", artifact_location=f"file://{folder}/artifacts")
        program = f"{first}\nfrom pipelines.commands.cli import main\nmain()"
        grid = ("technique=baseline", f"seed={','.join(map(str, range(seeds)))}", "training.epochs=2")
        places = ("tracking.experiment=starts", f"hydra.sweep.dir={folder}/sweep")
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", program, "-m", *grid, "measurement=quick", *places],
            cwd=ROOT, env=os.environ | {"MLFLOW_TRACKING_URI": uri}, check=True, stdout=sys.stderr,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        cells = client.search_runs([experiment], "tags.technique != ''", order_by=["attributes.start_time"])
        return seconds, [run.data.metrics["wall/start_s"] for run in cells[1:]]


if __name__ == "__main__":
    main()
