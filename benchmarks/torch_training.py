"""Training throughput of opscore's trainer against PyTorch on CPU.

    python -m benchmarks.torch_training --torch-python PATH [--models vgg16 resnet50 efficientnet_b0] [--epochs 8]

PATH is the Python of an environment of its own with PyTorch: `pip install torch torchvision`. 32x32 pixels, batch 128,
10 classes, random weights, equal multiply-accumulates. Ours is the trainer of every cell, with augmentation and the
model's own oneDNN setting (`benchmarks/fitting.py`); PyTorch's loop (`benchmarks/torch_fit.py`) augments nothing. Each
has a process, and epochs of a few seconds take turns, so that other programs affect both: the table has best,
median and the median of the ratios of neighbouring epochs. The first epoch of each is left out.
"""

import argparse
import statistics

from benchmarks.fitting import Fitting, of_neighbours, rates_in_turns
from benchmarks.images import BATCH

MODELS = ("vgg16", "resnet50", "efficientnet_b0")
IMAGES = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    print("images/s\n")
    print(
        "| model | MACs | opscore, best | PyTorch, best | ratio | opscore, median | PyTorch, median | of neighbours |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for model in arguments.models:
        ours = Fitting.of_opscore(model, IMAGES)
        torch = Fitting(arguments.torch_python, "benchmarks/torch_fit.py", model, str(IMAGES), str(BATCH))
        if ours.macs != torch.macs:
            raise RuntimeError(f"both networks must compute the same, got {ours.macs} and {torch.macs} MACs")
        own, other = rates_in_turns({"opscore": ours, "PyTorch": torch}, arguments.epochs).values()
        print(
            f"| {model} | {ours.macs / 1e6:.1f} M | {max(own):.1f} | {max(other):.1f} | {max(own) / max(other):.2f} "
            f"| {statistics.median(own):.1f} | {statistics.median(other):.1f} | {of_neighbours(own, other):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
