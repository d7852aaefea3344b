"""From the command to the answer: where the seconds of a cell go that trains nothing.

    python -m benchmarks.to_answer [--model resnet50] [--repeats 3] [--before CHECKOUT]

The cell is `quantize_int8` of a baseline that is trained first, for one epoch of 640 random images of 32x32 pixels; it
has 2,000 test images and the default measurement. Each run is the whole command in a process of its own, with another
number of calibration images, so that none is reused. Parts are those that the cell records, `end` is what the command
takes besides. `--before` adds another checkout of opscore, in turns; the table has the run of the least time.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.images import CLASSES, random_npz, random_overrides
from benchmarks.turns import take_turns

ROOT = Path(__file__).resolve().parents[1]
IMAGES, TEST = 640, 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--before", type=Path)
    arguments = parser.parse_args()
    checkouts = {"now": ROOT} | ({"before": arguments.before.resolve()} if arguments.before else {})
    with tempfile.TemporaryDirectory() as scratch:
        data = random_npz(Path(scratch), training=IMAGES, validation=CLASSES, test=TEST)
        given = random_overrides(arguments.model, data, epochs=1)
        overrides = [one for one in given if not one.startswith("technique=")]
        ways = {}
        for name, checkout in checkouts.items():
            store = Path(scratch) / name
            run = partial(_seconds, checkout, store, overrides)
            run("technique=baseline")
            ways[name] = partial(_quantized, run, iter(range(200, 200 + arguments.repeats)))
        taken = take_turns(ways, arguments.repeats)
    best = {name: min(runs, key=lambda parts: sum(parts.values())) for name, runs in taken.items()}
    parts = list(best["now"])
    print(f"| {arguments.model} | {' | '.join(parts)} | total |")
    print("|---" * (len(parts) + 2) + "|")
    for name, seconds in best.items():
        print(f"| {name} | {' | '.join(f'{seconds[part]:.1f} s' for part in parts)} | {sum(seconds.values()):.1f} s |")


def _quantized(run: Callable[..., dict[str, float]], calibration: Iterator[int]) -> dict[str, float]:
    return run("technique=quantize_int8", f"technique.calibration_images={next(calibration)}")


def _seconds(checkout: Path, store: Path, overrides: list[str], *more: str) -> dict[str, float]:
    """Seconds of a cell by part, without those of cells that it needs."""
    # An own folder for each run.
    folder = store / str(time.monotonic_ns())
    command = [sys.executable, "-m", "pipelines", "run", *overrides, *more, f"hydra.run.dir={folder}"]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db"}
    store.mkdir(exist_ok=True)
    began = time.perf_counter()
    subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
    taken = time.perf_counter() - began
    (path,) = folder.glob("*/breakdown.json")
    parts: dict[str, float] = json.loads(path.read_text())
    return parts | {"end": taken - sum(parts.values())}


if __name__ == "__main__":
    main()
