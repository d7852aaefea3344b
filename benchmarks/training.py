"""Training throughput inside a cell against a bare Keras `fit`, with oneDNN and with TensorFlow's defaults.

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

BARE = """
import sys, time
import numpy as np
import tf_keras
name, path, images, batch, epochs = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
with np.load(path) as arrays:
    x, y = arrays["x_train"][:images].astype("float32"), arrays["y_train"][:images]
make = {"resnet50": tf_keras.applications.ResNet50, "vgg16": tf_keras.applications.VGG16}[name]
backbone = make(include_top=False, weights=None, input_shape=x.shape[1:])
pooled = tf_keras.layers.GlobalAveragePooling2D()(backbone.output)
model = tf_keras.Model(backbone.input, tf_keras.layers.Dense(10)(pooled))
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
    print("| model | cell | bare, oneDNN | bare, defaults | cell / oneDNN | cell / defaults |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        data, fraction = random_npz(Path(scratch), training=IMAGES, validation=VALIDATION, test=CLASSES)
        for model in arguments.models:
            cell: list[float] = []
            onednn: list[float] = []
            defaults: list[float] = []
            for repeat in range(arguments.repeats):
                cell += _cell(model, (data, fraction), Path(scratch) / f"{model}-{repeat}")
                onednn += _bare(model, data, onednn=True, images=IMAGES, epochs=EPOCHS)
                defaults += _bare(model, data, onednn=False, images=DEFAULTS_IMAGES, epochs=3)
            a, b, c = map(max, (cell, onednn, defaults))
            print(f"| {model} | {a:.1f} | {b:.1f} | {c:.1f} | {a / b:.2f} | {a / c:.2f} |", flush=True)


def _cell(model: str, data: tuple[Path, float], folder: Path) -> list[float]:
    """Images per second of each epoch but the first."""
    command = [
        *(sys.executable, "-m", "pipelines.run", *random_overrides(model, data, epochs=EPOCHS)),
        *("measurement=quick", f"tracking.uri=sqlite:///{folder}/mlflow.db", f"hydra.run.dir={folder}"),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (result,) = folder.glob("*/result.json")
    return [epoch["images_per_s"] for epoch in json.loads(result.read_text())["epochs"][1:]]


def _bare(model: str, data: Path, *, onednn: bool, images: int, epochs: int) -> list[float]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    environment["TF_USE_LEGACY_KERAS"] = "1"
    if onednn:
        environment["TF_ENABLE_ONEDNN_OPTS"] = "1"
    command = [sys.executable, "-c", BARE, model, str(data), str(images), str(BATCH), str(epochs)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    rates = [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("RATE")]
    return rates[1:]


if __name__ == "__main__":
    main()
