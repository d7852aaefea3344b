"""int8 without training: what it loses against float, how fast it is and how long it takes; beside it NNCF.

    python -m benchmarks.post_training IMAGES.npz [--nncf-python PATH] [--models efficientnet_lite0 resnet50 vgg16]

IMAGES.npz: as `dataset=npz` reads it. Each network is trained by `opscore run`, and its float file quantized as
`quantize_int8` does with other numbers of calibration images, each number with other images three times; with other
estimates of the ranges, from those of each image; and once by NNCF with 200 images, as OpenVINO reads the file that
LiteRT runs. PATH is the Python of an environment with `pip install nncf openvino`. "loses" is the accuracy lost on all
test images, with its 95% interval (Bonett and Price); "changed" the images that only one of the two gets right. Times:
one image, one thread, the best of rounds of a second in turns; one time for all files of opscore, which compute alike.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.proof import trained
from benchmarks.turns import milliseconds
from pipelines.datasets.base import ImageData
from pipelines.datasets.npz import Npz
from pipelines.litert.exported_model import ExportedModel
from pipelines.quantization.answers import logits, snr_db
from pipelines.quantization.calibration import calibrated, ranges, with_ranges
from pipelines.quantization.integers import quantized
from pipelines.results import statistics
from pipelines.system import runtime

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("efficientnet_lite0", "resnet50", "vgg16")
COUNTS, DRAWS, PEER_IMAGES = (50, 200, 1000), 3, 200
ROUNDS, ROUND_S = 5, 1.0
# Of the least values of the images, and of the largest ones turned around.
Estimate = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
ESTIMATES: dict[str, Estimate] = {
    "1% of images outside": lambda values: np.percentile(values, 1, axis=0).astype(np.float32),
    "5% of images outside": lambda values: np.percentile(values, 5, axis=0).astype(np.float32),
    "mean of the images' ranges": lambda values: values.mean(axis=0),
}


@dataclass(kw_only=True)
class Way:
    """One quantized model. classes: of the test images. snr_db: None where the logits are not at hand."""

    name: str
    seconds: float
    classes: npt.NDArray[Any]
    snr_db: float | None = None
    ms: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("npz", type=Path)
    parser.add_argument("--nncf-python")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--overrides", nargs="*", default=["training.epochs=6"], help="of the training")
    arguments = parser.parse_args()
    runtime.configure(onednn=True, deterministic=False)
    data = Npz(path=str(arguments.npz), limit_train=None, limit_test=None, validation_fraction=0.1).load()
    print("| network | int8 by | calibration | loses, points | changed | SNR | ms | to float | seconds |")
    print("|---" * 9 + "|")
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder, runtime.without_greetings():
            flatbuffer = trained(model, arguments.npz, arguments.overrides, Path(folder))
            _compare(model, flatbuffer, data, peer=arguments.nncf_python, folder=Path(folder))


def _compare(model: str, flatbuffer: bytes, data: ImageData, *, peer: str | None, folder: Path) -> None:
    train, test = data.train, data.test
    path = folder / "float.tflite"
    path.write_bytes(flatbuffer)
    expected = logits(flatbuffer, test.images)
    order = np.random.default_rng(0).permutation(len(train))
    ways: list[Way] = []

    def add(name: str, quantize: Callable[[], bytes]) -> bytes:
        started = time.perf_counter()
        made = quantize()
        seconds, found = time.perf_counter() - started, logits(made, test.images)
        ways.append(Way(name=name, seconds=seconds, classes=found.argmax(axis=1), snr_db=snr_db(expected, found)))
        return made

    for count in COUNTS:
        for draw in range(DRAWS):
            images = np.take(train.images, order[draw * count : (draw + 1) * count], axis=0)
            eight = add(f"opscore | {count}", partial(_int8, flatbuffer, images))
    for name, estimate in ESTIMATES.items():
        add(f"{name} | {len(images)}", partial(_estimated, flatbuffer, images, estimate))
    (folder / "int8.tflite").write_bytes(eight)
    floats = ExportedModel(path)
    integers = ExportedModel(folder / "int8.tflite")
    process = None
    if peer:
        np.savez(
            folder / "images.npz", calibration=np.take(train.images, order[:PEER_IMAGES], axis=0), test=test.images
        )
        command = [peer, str(ROOT / "benchmarks/nncf_quantize.py"), str(path), str(folder / "images.npz")]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert process.stdin is not None and process.stdout is not None
        told = json.loads(next(line for line in process.stdout if line.startswith("{")))
        if told["threads"] != 1:
            raise RuntimeError(f"OpenVINO must compute on one thread, got {told['threads']}")
        name = f"{told['version']} ({told['precision']}) | {PEER_IMAGES}"
        ways.append(Way(name=name, seconds=told["seconds"], classes=np.array(told["classes"])))
    float_ms: list[float] = []
    for _ in range(ROUNDS):
        float_ms.append(milliseconds(floats, test.images, ROUND_S))
        ways[0].ms.append(milliseconds(integers, test.images, ROUND_S))
        if process is not None:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            ways[-1].ms.append(float(process.stdout.readline()))
    if process is not None:
        process.communicate()
    right = expected.argmax(axis=1) == test.labels
    for way in ways:
        way.ms = way.ms or ways[0].ms
        _print(model, way, right, way.classes == test.labels, min(float_ms))


def _int8(flatbuffer: bytes, images: npt.NDArray[np.uint8]) -> bytes:
    """opscore's int8, from the float model."""
    return quantized(calibrated(flatbuffer, images))


def _estimated(flatbuffer: bytes, images: npt.NDArray[np.uint8], estimate: Estimate) -> bytes:
    """int8 with other ranges than the least and the largest values."""
    places, lowest, highest = ranges(flatbuffer, images)
    return quantized(with_ranges(flatbuffer, places, estimate(lowest), -estimate(-highest)))


def _print(model: str, way: Way, right: npt.NDArray[np.bool_], own: npt.NDArray[np.bool_], float_ms: float) -> None:
    images, ms = len(right), min(way.ms)
    lost, won = int((right & ~own).sum()), int((own & ~right).sum())
    low, high = statistics.paired_difference(lost - won, lost + won, images)
    snr = f"{way.snr_db:.1f} dB" if way.snr_db is not None else "-"
    print(
        f"| {model}, {right.mean():.1%} | {way.name} | {100 * (lost - won) / images:+.2f} "
        f"({100 * low:+.2f} to {100 * high:+.2f}) | {(lost + won) / images:.1%} | {snr} | {ms:.3f} "
        f"| x {ms / float_ms:.2f} | {way.seconds:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
