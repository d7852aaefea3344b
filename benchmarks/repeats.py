"""One cell, run again and again: how far its training time and its score scatter, and what `compare` calls a tie.

    python -m benchmarks.repeats [--repeats 6] [overrides]

Each repeat is computed anew in a process of its own, as a user would run it. The standard deviation of the log training
time is what `verdict.TRAIN_SPREAD` stands for.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from pipelines.comparison.ranking import compare
from pipelines.results.metrics import OWN_TRAIN_S, SCORE
from pipelines.results.verdict import TRAIN_SPREAD

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("overrides", nargs="*", help="of the cell; default: the baseline of small_cnn on digits")
    arguments = parser.parse_args()

    from pipelines.tracking.store import Store

    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        for _ in range(arguments.repeats):
            subprocess.run(
                [sys.executable, "-m", "pipelines", "run", "technique=baseline", "resume=false", *arguments.overrides,
                 f"tracking.uri={uri}", f"hydra.run.dir={folder}/run-${{now:%H-%M-%S-%f}}"],
                cwd=ROOT, env=os.environ, check=True, stdout=sys.stderr,
            )  # fmt: skip
        cells = Store.existing(uri, "opscore").finished_cells()
    seconds = [cell.metrics[OWN_TRAIN_S] for cell in cells]
    scores = [cell.metrics[SCORE] for cell in cells]
    spread = statistics.stdev(math.log(one) for one in seconds)
    # As cells of their own, which a comparison would otherwise take for one that was run again.
    apart = [replace(cell, name=f"{cell.name}-{n}") for n, cell in enumerate(cells)]
    (comparison,) = compare(apart)
    print(f"{cells[0].name}, {len(cells)} times on {cells[0].hardware}")
    print(f"training {min(seconds):.2f} to {max(seconds):.2f} s, standard deviation of the log {spread:.3f} ", end="")
    print(f"(taken for a single training: {TRAIN_SPREAD})")
    print(
        f"score {min(scores):.2f} to {max(scores):.2f} dB; tied with the first: {len(comparison.tied)} of {len(cells)}"
    )


if __name__ == "__main__":
    main()
