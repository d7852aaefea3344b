"""How fast each quantization is to LiteRT's XNNPACK, and which operators run outside of it.

    python -m benchmarks.acceleration [--models vgg16 resnet50 ...] [--pixels 32] [--rounds 11]

Networks of 10 classes with random weights whose normalizations follow random images, as those of a trained network
follow its own: constant activations would quantize in no useful way. `pruned` has four of five weights zero and
`clustered` 16 values a kernel, both in float. Depthwise kernels in int8 and 64-bit biases are what the converter writes
by itself. One thread, single images, all files of a network in turns: a round times each for a fifth of a second; the
table has the best round's median, and its ratio to float's. "SNR" compares the logits of 50 images with those of the
Keras network: 10 dB more is a tenth of the error's power.
"""

import argparse
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from benchmarks.fitting import random_cell
from benchmarks.images import CLASSES
from benchmarks.turns import milliseconds, take_turns
from pipelines.litert.delegation import delegation
from pipelines.litert.exported_model import ExportedModel
from pipelines.quantization.answers import snr_db

MODELS = ("small_cnn", "mobilenet_v2", "efficientnet_lite0", "efficientnet_b0", "resnet50", "vgg16")
IMAGES, TEST, ROUND_S = 200, 50, 0.2
ZEROS, CLUSTERS = 0.8, 16
WIDE = "int16x8, 64-bit biases"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()
    print("| model | file | partitions | outside XNNPACK | ms | to float | kB | SNR |")
    print("|---|---|---|---|---|---|---|---|")
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            _measure(model, arguments.pixels, arguments.rounds, Path(folder))


def _measure(name: str, pixels: int, rounds: int, folder: Path) -> None:
    overrides = [f"++model.input_size={pixels}"]
    cell, data = random_cell(name, training=IMAGES, test=TEST, epochs=1, overrides=overrides)
    model = cell.model.build(data.image_shape, CLASSES)
    _follow(model, data.train.images)
    expected = model.predict(data.test.images.astype(np.float32), verbose=0)
    paths = _export(model, data, folder)
    loaded = {way: ExportedModel(path) for way, path in paths.items()}
    taken = take_turns(
        {way: partial(milliseconds, one, data.test.images, ROUND_S) for way, one in loaded.items()}, rounds
    )
    for way, path in paths.items():
        found = delegation(path)
        # A network with other weights has other logits to follow.
        snr = "-" if way in CHANGES else f"{snr_db(expected, loaded[way].logits(data.test.images)):.0f} dB"
        outside = ", ".join(f"{count} {operator}" for operator, count in found.undelegated.items())
        print(
            f"| {name} | {way} | {found.partitions} | {outside or '-'} | {min(taken[way]):.3f} "
            f"| x {min(taken[way]) / min(taken['float']):.2f} | {path.stat().st_size / 1e3:.0f} "
            f"| {snr} |",
            flush=True,
        )


def _follow(model: Any, images: npt.NDArray[np.uint8]) -> None:
    """Let every normalization have the mean and the variance of its inputs, and pass on something."""
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    for layer in norms:
        layer.gamma.assign(np.random.default_rng(0).uniform(0.5, 1.5, layer.gamma.shape))
        layer.momentum = 0.0
    model(images.astype(np.float32), training=True)


def _export(model: Any, data: Any, folder: Path) -> dict[str, Path]:
    """The files by name, without those that LiteRT refuses."""
    from pipelines.execution.export import export
    from pipelines.techniques.base import Candidate
    from pipelines.techniques.quantize import Quantize

    plain = Candidate(model=model)
    techniques = {
        "dynamic, depthwise int8": Quantize(scheme="dynamic", depthwise="int8"),
        "dynamic": Quantize(scheme="dynamic"),
        "float16": Quantize(scheme="float16"),
        "int8": Quantize(scheme="int8", calibration_images=IMAGES),
        WIDE: Quantize(scheme="int16x8", calibration_images=IMAGES),
        "int16x8": Quantize(scheme="int16x8", calibration_images=IMAGES),
    }
    candidates = {"float": plain}
    candidates |= {name: replace(plain, rewriting=technique) for name, technique in techniques.items()}
    candidates |= {name: replace(plain, model=_changed(model, change)) for name, change in CHANGES.items()}
    paths = {}
    for name, candidate in candidates.items():
        path = folder / f"{name}.tflite"
        try:
            # The converter's own file.
            unchanged = patch("pipelines.quantization.integers.with_narrow_biases", lambda flatbuffer: flatbuffer)
            with unchanged if name == WIDE else nullcontext():
                export(candidate, data, path)
        except ValueError as error:
            print(f"{name}: {error}", flush=True)
            continue
        paths[name] = path
    return paths


def _pruned(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.where(abs(kernel) < np.quantile(abs(kernel), ZEROS), np.float32(0), kernel)


def _clustered(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    edges = np.quantile(kernel, np.linspace(0, 1, CLUSTERS + 1))
    return ((edges[:-1] + edges[1:]) / 2).astype(np.float32)[np.digitize(kernel, edges[1:-1])]


CHANGES = {"pruned": _pruned, "clustered": _clustered}


def _changed(model: Any, change: Callable[[Any], Any]) -> Any:
    from pipelines.models.checkpoint import duplicate

    changed = duplicate(model)
    for layer in changed.layers:
        if type(layer).__name__ in ("Conv2D", "Dense"):
            layer.kernel.assign(change(layer.kernel.numpy()))
    return changed


if __name__ == "__main__":
    main()
