"""How close training and inference come to what this machine's cores can do.

    python -m benchmarks.limits [--models vgg16 resnet50 ...] [--epochs 3]

Convention: one multiply-accumulate is two floating-point operations; a training step is three forward passes (forward,
gradient of the inputs, gradient of the kernels), so that an image counts 6 x MACs in training and 2 x MACs in
inference. Normalization, activations and optimizer count nothing. The peak is NumPy's (OpenBLAS's) float32 product of
two 2048 x 2048 matrices on one thread and on all, taken before and after each model in the process that measures it.

Training: the trainer of every cell, 32x32 pixels, batch 128, augmented, with the model's own oneDNN setting; the best
epoch but the first. Inference: LiteRT, float32, single images, on one thread, and one interpreter a core. A second
table says where a training step goes, by TensorFlow's own profiler, and how long reading the weights once from memory
takes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.images import CLASSES, SIDE, random_npz

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("vgg16", "resnet50", "resnet101", "mobilenet_v2", "efficientnet_b0", "efficientnet_lite0", "small_cnn")
IMAGES, BATCH = 512, 128
# By the beginnings of TensorFlow's operators, without `_MklNative` and `_Fused`; the first that fits counts.
GROUPS = {
    "depthwise convolutions": ("DepthwiseConv2d",),
    "convolutions, products": ("Conv2D", "MatMul"),
    "normalization": ("BatchNorm", "FusedBatchNorm"),
    "optimizer": ("ResourceApply",),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """Of one model. Rates of images per second, peaks in FLOP/s, bandwidth in bytes per second, shares of a step."""

    macs: int
    weight_bytes: int
    training: float
    single: float
    all_cores: float
    peak_single: float
    peak_all: float
    bandwidth_single: float
    shares: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.model:
        print(json.dumps(asdict(_measured(arguments.model, arguments.epochs))))
        return
    found = {}
    for model in arguments.models:
        command = [sys.executable, "-m", "benchmarks.limits", "--model", model, "--epochs", str(arguments.epochs)]
        done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        found[model] = Found(**json.loads(done.stdout.splitlines()[-1]))
    _tell(found)


def _tell(found: dict[str, Found]) -> None:
    print("| model | MACs | training | of peak | inference, 1 thread | of peak | inference, all cores | of peak |")
    print("|---|---|---|---|---|---|---|---|")
    for model, one in found.items():
        training = 6 * one.macs * one.training
        single, all_cores = 2 * one.macs * one.single, 2 * one.macs * one.all_cores
        print(
            f"| {model} | {one.macs / 1e6:.1f} M "
            f"| {training / 1e9:.1f} GFLOP/s | {training / one.peak_all:.0%} "
            f"| {single / 1e9:.1f} GFLOP/s | {single / one.peak_single:.0%} "
            f"| {all_cores / 1e9:.1f} GFLOP/s | {all_cores / one.peak_all:.0%} |"
        )
    print(f"\n| model | training images/s | {' | '.join([*GROUPS, 'the rest'])} | one image | weights from memory |")
    print("|---" * (len(GROUPS) + 5) + "|")
    for model, one in found.items():
        shares = " | ".join(f"{one.shares.get(group, 0):.0%}" for group in (*GROUPS, "the rest"))
        print(
            f"| {model} | {one.training:.0f} | {shares} "
            f"| {1e3 / one.single:.2f} ms | {1e3 * one.weight_bytes / one.bandwidth_single:.2f} ms |"
        )
    peaks = [(one.peak_single, one.peak_all, one.bandwidth_single) for one in found.values()]
    one_thread, threads, bandwidth = (max(values) / 1e9 for values in zip(*peaks, strict=True))
    print(
        f"\npeak: {one_thread:.0f} GFLOP/s on one thread, {threads:.0f} on all; {bandwidth:.1f} GB/s read on one thread"
    )


def _measured(name: str, epochs: int) -> Found:
    from hydra import compose, initialize_config_dir

    from pipelines import runtime
    from pipelines.composition import CONF, cell_of
    from pipelines.execution import loaded
    from pipelines.export import export
    from pipelines.models import complexity
    from pipelines.techniques.base import Candidate

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data_path, fraction = random_npz(folder, training=IMAGES, validation=10, test=400)
        overrides = [f"model={name}", f"++model.input_size={SIDE}", "model.weights=null", "technique=baseline"]
        overrides += ["dataset=npz", f"dataset.path={data_path}", f"dataset.validation_fraction={fraction}"]
        overrides += ["dataset.horizontal_flip=true", "dataset.max_shift=4"]
        overrides += [f"training.batch_size={BATCH}", f"training.epochs={epochs}", f"training.patience={epochs}"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cell = cell_of(compose("config", overrides))
        before = _peaks()
        runtime.prepare(onednn=cell.model.onednn, deterministic=False)
        data = loaded(cell.dataset)
        model = cell.model.build(data.image_shape, CLASSES)
        training, shares = _trained(cell, data, model)
        artifact = folder / "artifact.tflite"
        export(Candidate(model=model), training_images=data.train.images, labels=data.class_names, path=artifact)
        single, all_cores = _answering(artifact, data.test.images)
        peaks = [max(pair) for pair in zip(before, _peaks(), strict=True)]
        return Found(
            macs=complexity.macs(model),
            weight_bytes=4 * complexity.parameters(model),
            training=training,
            single=single,
            all_cores=all_cores,
            peak_single=peaks[0],
            peak_all=peaks[1],
            bandwidth_single=peaks[2],
            shares=shares,
        )


def _trained(cell: Any, data: Any, model: Any) -> tuple[float, dict[str, float]]:
    """Images per second of the best epoch but the first, and shares of the operators' time in one more epoch."""
    import tensorflow as tf

    from pipelines.training import Trainer

    trainer = Trainer(settings=cell.training, data=data, dataset=cell.dataset, seed=0, on_epoch=lambda *_: None)
    trainer.fit(model, keep_best=False)
    rate = max(epoch["images_per_s"] for epoch in trainer.epochs[1:])
    batches = trainer.batches().training
    model.fit(batches, verbose=0)  # traced anew, as there are no callbacks or validation now
    with tempfile.TemporaryDirectory() as logs:
        with tf.profiler.experimental.Profile(logs):
            model.fit(batches, verbose=0)
        (path,) = Path(logs).rglob("*.xplane.pb")
        return rate, _shares(path)


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
    kind = kind.removeprefix("_MklNative").removeprefix("_").removeprefix("Fused")
    return next((group for group, starts in GROUPS.items() if kind.startswith(starts)), "the rest")


def _answering(artifact: Path, images: Any) -> tuple[float, float]:
    """Images per second on one thread, by the best of five, and on all cores, by the best of three."""
    from pipelines.measure.child import answer_all
    from pipelines.measure.litert import Artifact

    loaded = Artifact(artifact, threads=1)
    part = images[: len(images) // 5]
    single = len(part) / min(_seconds(lambda: loaded.logits(part)) for _ in range(5))
    return single, max(answer_all(artifact, images)[1] for _ in range(3))


def _peaks() -> tuple[float, float, float]:
    """FLOP/s of a matrix product on one thread and on all, and bytes per second read by one thread."""
    from threadpoolctl import threadpool_limits

    size = 2048
    matrix = np.random.default_rng(0).random((size, size), np.float32)
    long = np.ones(2**26, np.float32)

    def product() -> float:
        return 2 * size**3 / min(_seconds(lambda: matrix @ matrix) for _ in range(5))

    with threadpool_limits(1):
        single = product()
        bandwidth = long.nbytes / min(_seconds(lambda: long @ long) for _ in range(5))
    return single, product(), bandwidth


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
