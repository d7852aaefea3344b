"""Time from the command to the end of the first training batch: a cell against a bare script.

    python -m benchmarks.first_batch [--models resnet50 small_cnn] [--repeats 3]

The first batch is where TensorFlow is imported, the network built, and its training step traced and compiled. The cell
has by then also composed and checked its configuration and opened its run in MLflow (SQLite). The bare script is
`benchmarks/bare_cell.py`. Both record the time in a callback after the first batch and end there. All processes
are new, in turns.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.images import random_npz
from benchmarks.overhead import BARE_ENVIRONMENT, VALIDATION, cell_command, new_store
from benchmarks.turns import compared, take_turns

ROOT = Path(__file__).resolve().parents[1]
# The command with a callback in every fit that records the time of the first batch and stops.
CELL = "from benchmarks.first_batch import main_of_cell; main_of_cell()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "small_cnn"], choices=["resnet50", "small_cnn"])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, fraction = random_npz(folder, training=640, validation=VALIDATION, test=10)
        store = new_store(folder)
        for model in arguments.models:
            command = cell_command(
                model, (data, fraction), epochs=1, store=store, folder=f"{folder}/cells/${{now:%H-%M-%S-%f}}"
            )
            cell = [sys.executable, "-c", CELL, *command[3:]]
            bare = [sys.executable, "-m", "benchmarks.bare_cell", model, str(data), str(VALIDATION), "0", ""]
            given = take_turns(
                {"bare script": partial(_seconds, bare, BARE_ENVIRONMENT), "cell": partial(_seconds, cell, {})},
                arguments.repeats,
            )
            print(f"\n{model}\n\n{compared(given, 's', to='bare script')}", flush=True)


def main_of_cell() -> None:
    """`python -m pipelines run` that ends with the first training batch."""
    from pipelines.commands.cli import main
    from pipelines.training.trainer import Trainer

    fit = Trainer.fit

    def fit_one_batch(self: Trainer, model: Any, **options: Any) -> None:
        import tf_keras

        stop = tf_keras.callbacks.LambdaCallback(on_batch_end=lambda *_, **__: tell_and_stop())
        fit(self, model, **options, callbacks=[stop])

    Trainer.fit = fit_one_batch  # type: ignore[method-assign]
    main()


def tell_and_stop() -> None:
    """Print the time, for `_seconds`, and end this process at once."""
    print(f"FIRST_BATCH {time.time()}", flush=True)
    os._exit(0)


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    started = time.time()
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, check=True, capture_output=True, text=True
    ).stdout
    (stamp,) = [line.split()[1] for line in done.splitlines() if line.startswith("FIRST_BATCH")]
    return float(stamp) - started


if __name__ == "__main__":
    main()
