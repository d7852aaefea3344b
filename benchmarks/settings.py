"""Training throughput under other settings than each model's own: what pays?

    python -m benchmarks.settings [--models vgg16 resnet50 ...] [--epochs 5]

The trainer of every cell (`benchmarks/fitting.py`), 32x32 pixels, 512 images an epoch, batch 128. Each way changes one
thing: precision, TensorFlow's own convolutions, no oneDNN, several batches an execution of TensorFlow's step, another
batch, fewer threads. All ways of a model have a process and their epochs take turns; the first of each is left out. The
table has the best epoch's images per second and the median of the ratios to the epoch of the own settings in the same
turn.
"""

import argparse
from dataclasses import dataclass, field

from benchmarks.fitting import Fitting, of_neighbours, rates_in_turns, told

MODELS = ("vgg16", "resnet50", "efficientnet_b0", "efficientnet_lite0", "mobilenet_v2", "small_cnn")
IMAGES = 512
OWN = "its own"


@dataclass(frozen=True, kw_only=True)
class Way:
    """settings: options and overrides of `benchmarks.fitting`. environment: what TensorFlow reads when it is loaded.
    expected: what the training must then use."""

    settings: tuple[str, ...] = ()
    expected: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--ways", nargs="+", help="default: all")
    arguments = parser.parse_args()
    ways = {
        OWN: Way(),
        "float32": Way(settings=("training.mixed_precision=false",), expected={"precision": "float32"}),
        "bfloat16": Way(settings=("training.mixed_precision=true",), expected={"precision": "mixed_bfloat16"}),
        "TensorFlow's convolutions": Way(
            settings=("training.fast_convolutions=false",), expected={"convolutions": "TensorFlow's"}
        ),
        "without oneDNN": Way(settings=("model.onednn=false",), expected={"onednn": "off"}),
        "4 steps an execution": Way(settings=("--steps-per-execution", "4")),
        "batch 32": Way(settings=("training.batch_size=32",)),
        "batch 64": Way(settings=("training.batch_size=64",)),
        "batch 256": Way(settings=("training.batch_size=256",)),
        "1 inter-op thread": Way(environment={"TF_NUM_INTEROP_THREADS": "1"}),
        "1 intra-op thread": Way(environment={"TF_NUM_INTRAOP_THREADS": "1"}),
    }
    ways = {name: way for name, way in ways.items() if name in (OWN, *(arguments.ways or ways))}
    print("images/s of the best epoch, and the ratio to the model's own settings\n")
    print(f"| model | {' | '.join(ways)} |")
    print("|---" * (len(ways) + 1) + "|")
    used = []
    for model in arguments.models:
        fittings = {
            name: Fitting.of_opscore(model, IMAGES, *way.settings, expected=way.expected, environment=way.environment)
            for name, way in ways.items()
        }
        rates = rates_in_turns(fittings, arguments.epochs)
        used.append(f"{model}, {told({OWN: fittings[OWN]})}")
        cells = [f"{max(taken):.0f} (x {of_neighbours(taken, rates[OWN]):.2f})" for taken in rates.values()]
        print(f"| {model} | {' | '.join(cells)} |", flush=True)
    print("\n" + "\n".join(used))


if __name__ == "__main__":
    main()
