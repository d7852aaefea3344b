"""Training throughput inside a cell against a bare Keras `fit`: oneDNN in float32 and bfloat16, TensorFlow's defaults.

    python -m benchmarks.training [--models resnet50 vgg16] [--repeats 2]

Every figure comes from a process of its own: 32x32 pixels, batch 128, Adam, 10 classes, random weights. The cell is the
real command, with its augmentation (flip and shift), validation, early stopping and tracking. The first epoch, in
which TensorFlow traces, is left out everywhere. The best of the other epochs counts: what else runs on a machine can
only slow an epoch down, and it does so by a fifth on a shared one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.images import BATCH, CLASSES, random_npz, random_overrides

ROOT = Path(__file__).resolve().parents[1]
IMAGES = 640
EPOCHS = 6
# TensorFlow's defaults are so slow that a shorter epoch must do; the rate is of whole epochs all the same.
DEFAULTS_IMAGES = 512
VALIDATION = IMAGES // 8
CELL = "cell"

BARE = """
import sys, time
import numpy as np
import tf_keras
name, path, policy, images, batch, epochs = *sys.argv[1:4], *map(int, sys.argv[4:])
tf_keras.mixed_precision.set_global_policy(policy)
with np.load(path) as arrays:
    x, y = arrays["x_train"][:images].astype("float32"), arrays["y_train"][:images]
make = {"resnet50": tf_keras.applications.ResNet50, "vgg16": tf_keras.applications.VGG16}[name]
backbone = make(include_top=False, weights=None, input_shape=x.shape[1:])
pooled = tf_keras.layers.GlobalAveragePooling2D()(backbone.output)
model = tf_keras.Model(backbone.input, tf_keras.layers.Dense(10, dtype="float32")(pooled))
computed = {layer.compute_dtype for layer in model.layers if "conv" in layer.name}
assert computed == {policy.removeprefix("mixed_")}, computed
model.compile("adam", tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"])

class Clock(tf_keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()
    def on_epoch_end(self, epoch, logs=None):
        print("RATE", len(x) / (time.perf_counter() - self.started))
model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0, callbacks=[Clock()])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet50", "vgg16"], choices=["resnet50", "vgg16"])
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    print("images/s of the best epoch; ratios of the cell to the bare fits of this run\n")
    bare = ("bare, oneDNN", "bare, oneDNN, bfloat16", "bare, defaults")
    print(f"| model | cell in | cell | {' | '.join(bare)} | {' | '.join(f'cell / {name}' for name in bare)} |")
    print("|---" * (3 + 2 * len(bare)) + "|")
    with tempfile.TemporaryDirectory() as scratch:
        data, fraction = random_npz(Path(scratch), training=IMAGES, validation=VALIDATION, test=CLASSES)
        for model in arguments.models:
            rates: dict[str, list[float]] = {name: [] for name in (CELL, *bare)}
            for repeat in range(arguments.repeats):
                precision, taken = _cell(model, (data, fraction), Path(scratch) / f"{model}-{repeat}")
                rates[CELL] += taken
                rates[bare[0]] += _bare(model, data, onednn=True, images=IMAGES, epochs=EPOCHS)
                rates[bare[1]] += _bare(model, data, onednn=True, images=IMAGES, epochs=EPOCHS, policy="mixed_bfloat16")
                rates[bare[2]] += _bare(model, data, onednn=False, images=DEFAULTS_IMAGES, epochs=3)
            best = {name: max(taken) for name, taken in rates.items()}
            print(
                f"| {model} | {precision} | {' | '.join(f'{rate:.1f}' for rate in best.values())} "
                f"| {' | '.join(f'{best[CELL] / best[name]:.2f}' for name in bare)} |",
                flush=True,
            )


def _cell(model: str, data: tuple[Path, float], folder: Path) -> tuple[str, list[float]]:
    """The precision that the run recorded, and images per second of each epoch but the first."""
    command = [
        *(sys.executable, "-m", "pipelines", "run", *random_overrides(model, data, epochs=EPOCHS)),
        *("measurement=quick", f"tracking.uri=sqlite:///{folder}/mlflow.db", f"hydra.run.dir={folder}"),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*/result.json")
    result = json.loads(path.read_text())
    return result["precision"], [epoch["images_per_s"] for epoch in result["epochs"][1:]]


def _bare(model: str, data: Path, *, onednn: bool, images: int, epochs: int, policy: str = "float32") -> list[float]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    environment["TF_USE_LEGACY_KERAS"] = "1"
    if onednn:
        environment["TF_ENABLE_ONEDNN_OPTS"] = "1"
    command = [sys.executable, "-c", BARE, model, str(data), policy, str(images), str(BATCH), str(epochs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    rates = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("RATE")]
    return rates[1:]


if __name__ == "__main__":
    main()
