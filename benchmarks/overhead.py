"""A whole cell against a bare script that trains, converts and measures the same.

    python -m benchmarks.overhead [--epochs 6] [--repeats 3]

ResNet50 at 32x32 pixels, batch 128, random weights, technique `baseline`: a cell of about a minute. Both are processes
of their own, timed from start to end, in turns. The cell is the command as a user gives it, with Hydra, checks, MLflow
(SQLite, its schema made before), figures, checkpoint and the measuring process; `benchmarks/bare_cell.py` has none of
these. Their numbers of steps, oneDNN setting, conversion and rules for timed calls are equal. CPU seconds, of both with
all processes that they start, are given with wall time: other programs on the machine change them less.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.images import random_npz, random_overrides
from benchmarks.turns import compared_clocks, take_turns

ROOT = Path(__file__).resolve().parents[1]
TRAINING, VALIDATION, TEST = 640, 80, 1000
BARE_ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1", "TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, fraction = random_npz(folder, training=TRAINING, validation=VALIDATION, test=TEST)
        cell = cell_command(
            "resnet50",
            (data, fraction),
            epochs=arguments.epochs,
            store=new_store(folder),
            folder=f"{folder}/cells/${{now:%H-%M-%S-%f}}",
        )
        bare = [
            *(sys.executable, "-m", "benchmarks.bare_cell", "resnet50"),
            *(str(data), str(VALIDATION), str(arguments.epochs), str(folder / "bare.tflite")),
        ]
        ways = {"bare script": lambda: _seconds(bare, BARE_ENVIRONMENT), "cell": lambda: _seconds(cell, {})}
        given = take_turns(ways, arguments.repeats)
    print(compared_clocks(given, to="bare script"))


def cell_command(model: str, data: tuple[Path, float], *, epochs: int, store: str, folder: str) -> list[str]:
    """The command of a cell of technique `baseline` with what `bare_cell` has written in.

    data: what `random_npz` gives. folder: the job's, as Hydra resolves it.
    """
    return [
        *(sys.executable, "-m", "pipelines", "run", *random_overrides(model, data, epochs=epochs)),
        *("resume=false", f"tracking.uri={store}", f"hydra.run.dir={folder}"),
    ]


def new_store(folder: Path) -> str:
    """A SQLite store with its schema, which takes seconds to make, and the experiment of a cell."""
    import mlflow

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.MlflowClient(uri).create_experiment("opscore", artifact_location=(folder / "artifacts").as_uri())
    return uri


def _seconds(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall time, and CPU time of all its processes."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=True, stdout=sys.stderr)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
