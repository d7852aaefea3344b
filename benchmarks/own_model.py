"""A model file as a network of opscore, against `keras.saving.load_model` alone.

    python -m benchmarks.own_model [--repeats 5]

A ResNet50 of 64x64 pixels with random weights, saved by Keras 3. Both take turns in one process that has TensorFlow and
both Keras loaded, with the garbage collector as a cell sets it. The network's answers are compared first.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.turns import compared, take_turns
from pipelines.models.keras_file import KerasFile
from pipelines.system import runtime

SHAPE, CLASSES = (64, 64, 3), 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    runtime.prepare(onednn=True, deterministic=False)
    runtime.relax_gc()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet50.keras"
        keras.applications.ResNet50(weights=None, input_shape=SHAPE, classes=CLASSES, classifier_activation=None).save(
            path
        )
        own = KerasFile(
            path=str(path),
            pixels="0..255",
            input_size=None,
            class_names=None,
            trust=False,
            custom_objects=None,
            onednn=True,
        )

        def timed(load: object) -> float:
            started = time.perf_counter()
            load()  # type: ignore[operator]
            return time.perf_counter() - started

        def theirs() -> object:
            return keras.saving.load_model(path, compile=False)

        def ours() -> object:
            return own.build(SHAPE, CLASSES)

        images = np.random.default_rng(0).random((4, *SHAPE), dtype=np.float32)
        want = np.asarray(theirs()(images))  # type: ignore[operator]
        difference = np.abs(want - ours()(images).numpy()).max() / np.ptp(want)  # type: ignore[operator]
        print(f"largest difference of a logit, to their range: {difference:.1e}\n")
        taken = take_turns({"load_model": lambda: timed(theirs), "opscore": lambda: timed(ours)}, repeats)
    print(compared(taken, "s", "load_model"))
    ratios = [own_s / their_s for own_s, their_s in zip(taken["opscore"], taken["load_model"], strict=True)]
    print(f"\nmedian of the ratios of neighbours: x {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
