"""Training throughput inside a cell against PyTorch on CPU.

    python -m benchmarks.torch_training --torch-python PATH [--models vgg16 resnet50 efficientnet_b0] [--repeats 2]

PATH is the Python of an environment of its own with PyTorch: `pip install torch torchvision`. 32x32 pixels, batch 128,
10 classes, random weights. The cell is the real command, as in `benchmarks.training`, with augmentation, validation and
tracking; PyTorch's loop (`benchmarks/torch_fit.py`) has none of them. The first epoch is left out everywhere, and the
best of the others counts.
"""

import argparse
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

from benchmarks.images import random_npz
from benchmarks.training import BATCH, EPOCHS, IMAGES, VALIDATION, cell_rates
from benchmarks.turns import take_turns

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("vgg16", "resnet50", "efficientnet_b0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    print("images/s; MACs are of one image, as PyTorch counts its own\n")
    print("| model | MACs | cell, best | PyTorch, best | ratio | cell, median | PyTorch, median | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, fraction = random_npz(folder, training=IMAGES, validation=VALIDATION, test=10)
        for model in arguments.models:
            macs = 0

            def torch_rates(model: str = model) -> list[float]:
                nonlocal macs
                macs, rates = _torch(arguments.torch_python, model)
                return rates

            ways: dict[str, Callable[[], list[float]]] = {
                "cell": partial(cell_rates, model, data, fraction),
                "torch": torch_rates,
            }
            given = {way: [*chain(*rates)] for way, rates in take_turns(ways, arguments.repeats).items()}
            cell, torch = (max(given[way]) for way in ways)
            cell_median, torch_median = (statistics.median(given[way]) for way in ways)
            print(
                f"| {model} | {macs / 1e6:.1f} M | {cell:.1f} | {torch:.1f} | {cell / torch:.2f} "
                f"| {cell_median:.1f} | {torch_median:.1f} | {cell_median / torch_median:.2f} |",
                flush=True,
            )


def _torch(python: str, model: str) -> tuple[int, list[float]]:
    """MACs of one image, and images per second of each epoch but the first."""
    command = [python, "benchmarks/torch_fit.py", model, str(IMAGES), str(BATCH), str(EPOCHS)]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    (macs,) = (int(after) for word, after in pairwise(said) if word == "MACS")
    rates = [float(after) for word, after in pairwise(said) if word == "RATE"]
    return macs, rates[1:]


if __name__ == "__main__":
    main()
