"""Training with the quicker convolutions against the same with TensorFlow's own.

    python -m benchmarks.convolutions [--epochs 5]

The trainer of every cell (`benchmarks/fitting.py`), random images of 32x32 pixels, resized in the graph where another
input size is given; batch 128, above 96 pixels 32. Both ways have a process and their epochs take turns; the first of
each is left out. The table has the images per second of the best epochs and the median of the ratios of neighbours.
"""

import argparse

from benchmarks.fitting import Fitting, of_neighbours, rates_in_turns

# Model, images an epoch, and overrides.
CASES = (
    ("vgg16", 512),
    ("resnet50", 1024),
    ("resnet101", 512),
    ("efficientnet_b0", 1024),
    ("efficientnet_lite0", 2048),
    ("mobilenet_v2", 2048),
    ("small_cnn", 2048),
    ("resnet50", 256, "model.input_size=64"),
    ("efficientnet_b0", 512, "model.input_size=64"),
    ("efficientnet_b0", 256, "model.input_size=96"),
    ("mobilenet_v2", 256, "model.input_size=96"),
    ("resnet50", 64, "model.input_size=160", "training.batch_size=32"),
    ("efficientnet_b0", 64, "model.input_size=224", "training.batch_size=32"),
    ("efficientnet_lite0", 64, "model.input_size=224", "training.batch_size=32"),
    ("mobilenet_v2", 128, "model.input_size=224", "training.batch_size=32"),
    ("efficientnet_b0", 1024, "model.onednn=false"),
    ("efficientnet_lite0", 1024, "model.onednn=false"),
    ("mobilenet_v2", 1024, "model.onednn=false"),
    ("resnet50", 256, "model.onednn=false"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    print("images/s\n")
    print("| model | overrides | opscore | TensorFlow's convolutions | ratio |")
    print("|---|---|---|---|---|")
    for model, images, *overrides in CASES:
        fittings = {
            name: Fitting.of_opscore(
                model,
                images,
                f"training.fast_convolutions={str(fast).lower()}",
                *overrides,
                expected={"convolutions": whose, "onednn": "off" if "model.onednn=false" in overrides else "on"},
            )
            for name, fast, whose in (("quick", True, "opscore's"), ("own", False, "TensorFlow's"))
        }
        quick, own = rates_in_turns(fittings, arguments.epochs).values()
        ratio = of_neighbours(quick, own)
        print(f"| {model} | {' '.join(overrides)} | {max(quick):.0f} | {max(own):.0f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
