"""Training throughput of opscore's trainer against PyTorch on CPU.

    python -m benchmarks.torch_training --torch-python PATH [--models vgg16 resnet50 efficientnet_b0] [--epochs 8]

PATH is the Python of an environment of its own with PyTorch: `pip install torch torchvision`. 32x32 pixels, batch 128,
10 classes, random weights, equal multiply-accumulates. Ours is the trainer of every cell, with augmentation and the
model's own oneDNN setting; PyTorch's loop (`benchmarks/torch_fit.py`) augments nothing. Each has a process, and epochs
of a few seconds take turns, so that what else the machine does hits both: beside best and median stands the median
of the ratios of neighbouring epochs. The first epoch of each is left out.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.images import CLASSES, random_npz

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("vgg16", "resnet50", "efficientnet_b0")
IMAGES, BATCH = 256, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="required")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--ours", choices=MODELS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        _fit(arguments.ours, arguments.epochs)
        return
    if not arguments.torch_python:
        parser.error("--torch-python must name the Python of an environment with PyTorch")
    print("images/s\n")
    print(
        "| model | MACs | opscore, best | PyTorch, best | ratio | opscore, median | PyTorch, median | of neighbours |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for model in arguments.models:
        ours = _Fitting(
            sys.executable, "-m", "benchmarks.torch_training", "--ours", model, "--epochs", str(arguments.epochs + 1)
        )
        torch = _Fitting(arguments.torch_python, "benchmarks/torch_fit.py", model, str(IMAGES), str(BATCH))
        if ours.macs != torch.macs:
            raise RuntimeError(f"both networks must compute the same, got {ours.macs} and {torch.macs} MACs")
        rates = [(ours.epoch(), torch.epoch()) for _ in range(arguments.epochs + 1)][1:]
        ours.end()
        torch.end()
        (best, median), (torch_best, torch_median) = (
            (max(one), statistics.median(one)) for one in zip(*rates, strict=True)
        )
        neighbours = statistics.median(one / other for one, other in rates)
        print(
            f"| {model} | {ours.macs / 1e6:.1f} M | {best:.1f} | {torch_best:.1f} | {best / torch_best:.2f} "
            f"| {median:.1f} | {torch_median:.1f} | {neighbours:.2f} |",
            flush=True,
        )


class _Fitting:
    """A process that trains an epoch whenever it is told to."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.macs = int(self._told("MACS"))

    def epoch(self) -> float:
        """Images per second of one more epoch."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._told("RATE"))

    def end(self) -> None:
        """Let the process end."""
        self._process.communicate()

    def _told(self, what: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, _, value = line.partition(" ")
            if word == what:
                return value
        raise RuntimeError(f"a training must tell its {what}, it ended with status {self._process.wait()}")


def _fit(name: str, epochs: int) -> None:
    """Our side of what `torch_fit` does."""
    from hydra import compose, initialize_config_dir

    from pipelines import runtime
    from pipelines.composition import CONF, cell_of
    from pipelines.execution import loaded
    from pipelines.models.complexity import macs
    from pipelines.training import Trainer

    with tempfile.TemporaryDirectory() as folder:
        path, fraction = random_npz(Path(folder), training=IMAGES, validation=CLASSES, test=CLASSES)
        overrides = [f"model={name}", "model.weights=null", "technique=baseline", "dataset=npz", f"dataset.path={path}"]
        overrides += [f"dataset.validation_fraction={fraction}", "dataset.horizontal_flip=true", "dataset.max_shift=4"]
        overrides += [f"training.batch_size={BATCH}", f"training.epochs={epochs}", f"training.patience={epochs}"]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cell = cell_of(compose("config", overrides))
        data = loaded(cell.dataset)
    runtime.prepare(onednn=cell.model.onednn, deterministic=False)
    model = cell.model.build(data.image_shape, CLASSES)
    print("MACS", macs(model), flush=True)
    sys.stdin.readline()

    def tell(epoch: int, metrics: dict[str, float]) -> None:
        print("RATE", metrics["images_per_s"], flush=True)
        if epoch < epochs:
            sys.stdin.readline()

    trainer = Trainer(settings=cell.training, data=data, dataset=cell.dataset, seed=0, on_epoch=tell)
    trainer.fit(model, keep_best=False)


if __name__ == "__main__":
    main()
