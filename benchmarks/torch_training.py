"""Training throughput of opscore's trainer against PyTorch on CPU.

    python -m benchmarks.torch_training --torch-python PATH [--models vgg16 resnet50 efficientnet_b0] [--epochs 8]

PATH is the Python of an environment of its own with PyTorch: `pip install torch torchvision`. 32x32 pixels, batch 128,
10 classes, random weights, equal multiply-accumulates. Ours is the trainer of every cell, with augmentation and the
model's own settings (`benchmarks/fitting.py`); PyTorch's loop (`benchmarks/torch_fit.py`) augments nothing and runs in
float32 and in bfloat16, each as it is and by torch.compile. Each way has a process, and epochs of a few seconds take
turns, so that other programs affect all: the table has the best epochs' images per second, and the median ratio of
opscore's epochs to the fastest of PyTorch's ways in the same turn. The first epoch of each is left out.
"""

import argparse

from benchmarks.fitting import Fitting, of_neighbours, rates_in_turns, told
from benchmarks.images import BATCH

MODELS = ("vgg16", "resnet50", "efficientnet_b0")
IMAGES = 1024
OURS = "opscore"
# Options of benchmarks/torch_fit.py, and what it must then have used.
WAYS = {
    "PyTorch float32": ((), {"precision": "float32", "compiled_graphs": "0"}),
    "PyTorch bfloat16": (("--bfloat16",), {"precision": "bfloat16", "compiled_graphs": "0"}),
    "PyTorch float32, compiled": (("--compile",), {"precision": "float32", "compiled_graphs": "1"}),
    "PyTorch bfloat16, compiled": (("--bfloat16", "--compile"), {"precision": "bfloat16", "compiled_graphs": "1"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", required=True)
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    print(f"images/s of the best epoch\n\n| model | MACs | {OURS} | {' | '.join(WAYS)} | of the best | neighbours |")
    print("|---" * (len(WAYS) + 5) + "|")
    used = []
    for model in arguments.models:
        fittings = {OURS: Fitting.of_opscore(model, IMAGES)}
        for name, (options, expected) in WAYS.items():
            command = (arguments.torch_python, "benchmarks/torch_fit.py", model, str(IMAGES), str(BATCH), *options)
            fittings[name] = Fitting(*command, expected=expected)
        macs = {fitting.macs for fitting in fittings.values()}
        if len(macs) != 1:
            raise RuntimeError(f"all networks must compute the same, got {macs} MACs")
        rates = rates_in_turns(fittings, arguments.epochs)
        used.append(f"{model}, {told({OURS: fittings[OURS]})}")
        best = {name: max(taken) for name, taken in rates.items()}
        fastest = max(WAYS, key=lambda name: best[name])
        print(
            f"| {model} | {macs.pop() / 1e6:.1f} M | {' | '.join(f'{rate:.0f}' for rate in best.values())} "
            f"| {best[OURS] / best[fastest]:.2f} | {of_neighbours(rates[OURS], rates[fastest]):.2f} |",
            flush=True,
        )
    print("\n" + "\n".join(used))


if __name__ == "__main__":
    main()
