"""How close training and inference come to what this machine's cores can do.

    python -m benchmarks.limits [--models vgg16 resnet50 ...] [--epochs 5]

Convention: one multiply-accumulate is two floating-point operations; a training step is three forward passes (forward,
gradient of the inputs, gradient of the kernels), so that an image counts 6 x MACs in training and 2 x MACs in
inference, those of padding included. Normalization, activations and optimizer count nothing. The peak is that of
the product of two 2048 x 2048 matrices, on one thread and on all, taken by the same process before and after everything
that is compared with it: shares are medians of such neighbours, rates the best. It is NumPy's (OpenBLAS's) in float32,
and TensorFlow's (oneDNN's) in bfloat16 for a training that computes in that.

Training: the trainer of every cell, 32x32 pixels, batch 128, augmented, with the model's own settings; the best epoch
but the first. Inference: LiteRT, float32, single images, on one thread, and one interpreter a core. A second
table says where a training step goes, by TensorFlow's own profiler, and how long reading the weights once from memory
takes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks.fitting import random_cell, used

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("vgg16", "resnet50", "resnet101", "mobilenet_v2", "efficientnet_b0", "efficientnet_lite0", "small_cnn")
IMAGES, TEST, ROUNDS = 1024, 1000, 5
# By the beginnings of TensorFlow's operators, without what oneDNN and fusing put before them; the first that fits
# counts.
GROUPS = {
    "depthwise convolutions": ("DepthwiseConv2d",),
    "convolutions, products": ("Conv2D", "MatMul"),
    "normalization": ("BatchNorm", "FusedBatchNorm"),
    "optimizer": ("ResourceApply",),
}


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Work per second each time, and the peak in FLOP/s around it."""

    images_per_s: list[float]
    peaks: list[float]

    def format(self, flop: float) -> str:
        """The best rate and the share of the peak, where an image takes `flop`."""
        share = median(flop * rate / peak for rate, peak in zip(self.images_per_s, self.peaks, strict=True))
        return f"{flop * max(self.images_per_s) / 1e9:.1f} GFLOP/s | {share:.0%}"


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of one model. used: by its training. bandwidth: bytes per second that one thread reads. shares: of a training
    step's time.
    """

    macs: int
    weight_bytes: int
    used: dict[str, str]
    training: Rates
    single: Rates
    all_cores: Rates
    bandwidth: float
    shares: dict[str, float]

    @classmethod
    def load(cls, data: dict[str, Any]) -> "Found":
        """From what `asdict` made."""
        return cls(**data | {key: Rates(**data[key]) for key in ("training", "single", "all_cores")})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.model:
        print(json.dumps(asdict(_measured(arguments.model, arguments.epochs))))
        return
    found = {}
    for model in arguments.models:
        command = [sys.executable, "-m", "benchmarks.limits", "--model", model, "--epochs", str(arguments.epochs)]
        done = subprocess.run(
            command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | _widest_products()
        )
        found[model] = Found.load(json.loads(done.stdout.splitlines()[-1]))
    _tell(found)


def _widest_products() -> dict[str, str]:
    """OpenBLAS takes a new processor that it does not know for an older one of its maker, without AVX512."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    return {"OPENBLAS_CORETYPE": "SkylakeX"} if "avx512f" in flags else {}


def _tell(found: dict[str, Found]) -> None:
    heads = ("training", "inference, 1 thread", "inference, all cores")
    print(f"| model | MACs | training in | {' | '.join(f'{head} | of peak' for head in heads)} |")
    print("|---" * (3 + 2 * len(heads)) + "|")
    for model, one in found.items():
        print(
            f"| {model} | {one.macs / 1e6:.1f} M | {one.used['precision']} | {one.training.format(6 * one.macs)} "
            f"| {one.single.format(2 * one.macs)} | {one.all_cores.format(2 * one.macs)} |"
        )
    print(f"\n| model | training images/s | {' | '.join([*GROUPS, 'the rest'])} | one image | weights from memory |")
    print("|---" * (len(GROUPS) + 5) + "|")
    for model, one in found.items():
        shares = " | ".join(f"{one.shares.get(group, 0):.0%}" for group in (*GROUPS, "the rest"))
        print(
            f"| {model} | {max(one.training.images_per_s):.0f} | {shares} "
            f"| {1e3 / max(one.single.images_per_s):.2f} ms | {1e3 * one.weight_bytes / one.bandwidth:.2f} ms |"
        )
    single = max(peak for one in found.values() for peak in one.single.peaks)
    every = {
        precision: max(
            peak for one in found.values() if one.used["precision"] == precision for peak in one.training.peaks
        )
        for precision in sorted({one.used["precision"] for one in found.values()})
    }
    bandwidth = max(one.bandwidth for one in found.values())
    print(f"\nbest peak: {single / 1e9:.0f} GFLOP/s on one thread; on all", end=" ")
    print(", ".join(f"{peak / 1e9:.0f} in {precision}" for precision, peak in every.items()), end="; ")
    print(f"{bandwidth / 1e9:.1f} GB/s read by one thread")


def _measured(name: str, epochs: int) -> Found:
    from pipelines.execution.export import export
    from pipelines.execution.job import network_of
    from pipelines.models import checkpoint, complexity
    from pipelines.techniques.base import Candidate

    cell, data = random_cell(name, training=IMAGES, test=TEST, epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        model = network_of(cell, data)
        training, shares, used_by = _trained(cell, data, model)
        model = checkpoint.as_float32(model)
        exported_model = Path(folder) / "artifact.tflite"
        export(Candidate(model=model), data, exported_model)
        single, all_cores = _answering(exported_model, data.test.images)
        return Found(
            macs=complexity.macs(model),
            weight_bytes=4 * complexity.parameters(model),
            used=used_by,
            training=training,
            single=single,
            all_cores=all_cores,
            bandwidth=_bandwidth(),
            shares=shares,
        )


def _trained(cell: Any, data: Any, model: Any) -> tuple[Rates, dict[str, float], dict[str, str]]:
    """Rates of all epochs but the first, shares of the operators' time in one more epoch, and what it used."""
    import tensorflow as tf

    from pipelines.execution.job import trainer_of
    from pipelines.training import precision

    in_bfloat16 = precision.used(model) == precision.BFLOAT16
    peaks: list[float] = []
    used_by: dict[str, str] = {}

    def after_epoch(*_: object) -> None:
        used_by.update(used(model))
        peaks.append(_peak_bfloat16() if in_bfloat16 else _peak())

    trainer = trainer_of(cell, data, on_epoch=after_epoch)
    trainer.fit(model, keep_best=False)
    rates = Rates(
        images_per_s=[epoch["images_per_s"] for epoch in trainer.epochs[1:]],
        peaks=[mean(around) for around in pairwise(peaks)],
    )
    batches = trainer.batches().training
    model.fit(batches, verbose=0)  # traced anew, as there are no callbacks or validation now
    with tempfile.TemporaryDirectory() as logs:
        with tf.profiler.experimental.Profile(logs):
            model.fit(batches, verbose=0)
        (path,) = Path(logs).rglob("*.xplane.pb")
        return rates, _shares(path), used_by


def _shares(path: Path) -> dict[str, float]:
    """Shares of the operators' time that the profiler's file holds, by group."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    taken: Counter[str] = Counter()
    for plane in xplane_pb2.XSpace.FromString(path.read_bytes()).planes:
        for line in plane.lines:
            if line.name.startswith("tf_Compute"):
                for event in line.events:
                    # `name:operator`; the executor's own are `class::function` and hold the operators.
                    name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(":")
                    if name and not name.endswith(":"):
                        taken[_group(kind)] += event.duration_ps
    return {group: ps / taken.total() for group, ps in taken.items()}


def _group(kind: str) -> str:
    for prefix in ("_MklNative", "_Mkl", "_", "Fused"):
        kind = kind.removeprefix(prefix)
    return next((group for group, starts in GROUPS.items() if kind.startswith(starts)), "the rest")


def _answering(exported_model: Path, images: Any) -> tuple[Rates, Rates]:
    """On one thread, and on all cores."""
    from threadpoolctl import threadpool_limits

    from pipelines.litert.child import answer_all
    from pipelines.litert.exported_model import ExportedModel

    loaded = ExportedModel(exported_model, threads=1)
    with threadpool_limits(1):
        single = _beside_peaks(lambda: len(images) / _seconds(lambda: loaded.logits(images)))
    return single, _beside_peaks(lambda: answer_all(exported_model, images)[1])


def _beside_peaks(rate: Callable[[], float]) -> Rates:
    peaks, rates = [_peak()], []
    for _ in range(ROUNDS):
        rates.append(rate())
        peaks.append(_peak())
    return Rates(images_per_s=rates, peaks=[mean(around) for around in pairwise(peaks)])


def _peak() -> float:
    """FLOP/s of matrix products over half a second, so that what else the machine does counts here too."""
    size, products = 2048, 0
    matrix = np.ones((size, size), np.float32)
    started = time.perf_counter()
    while time.perf_counter() - started < 0.5:
        matrix @ matrix
        products += 1
    rate = products * 2 * size**3 / (time.perf_counter() - started)
    # OpenBLAS's threads keep their cores busy for a moment after a product, in case there is another.
    time.sleep(0.3)
    return rate


def _peak_bfloat16() -> float:
    """The same in bfloat16, on all cores."""
    import tensorflow as tf

    size, products = 2048, 0
    matrix = tf.ones((size, size), tf.bfloat16)
    started = time.perf_counter()
    while time.perf_counter() - started < 0.5:
        # TensorFlow may return before the product is there.
        tf.matmul(matrix, matrix)[0, 0].numpy()
        products += 1
    return products * 2 * size**3 / (time.perf_counter() - started)


def _bandwidth() -> float:
    """Bytes per second that one thread reads, the best of five."""
    from threadpoolctl import threadpool_limits

    long = np.ones(2**26, np.float32)
    with threadpool_limits(1):
        return long.nbytes / min(_seconds(lambda: long @ long) for _ in range(5))


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
