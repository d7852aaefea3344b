"""How often a search's loss of accuracy exceeds what was allowed, on images that it never saw.

    python -m benchmarks.proof IMAGES.npz --models small_cnn efficientnet_lite0 [--draws 20] [--images 2000]

IMAGES.npz: as `dataset=npz` reads it. Each network is trained on the training images by `opscore run`, and its float
file searched again and again, as `quantize_mixed` does, each time with other validation images drawn from the test
images, which no training saw. Draws of one shuffle are disjoint. All other test images are fresh: on them the float
model and the found one are compared. `proven` is the technique; `point estimate` takes of the same plans the boldest
whose drop on all validation images together is within what is allowed, as other tools do. The table counts the draws
whose drop on fresh images exceeds what was allowed, and has the files' mean size to that of 8 bits.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from pipelines.datasets.base import Split
from pipelines.datasets.npz import Npz
from pipelines.quantization.answers import Judge
from pipelines.quantization.calibration import calibrated, chosen
from pipelines.quantization.search import Plan, Search
from pipelines.quantization.sensitivity import part
from pipelines.system import runtime

ROOT = Path(__file__).resolve().parents[1]
# Those whose default weights need no download.
READY = ("small_cnn", "efficientnet_lite0")
WAYS = ("proven", "point estimate")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """drop: on fresh images. allowed: in this draw. size: of the file to that of 8 bits. seconds: of the search."""

    drop: float
    allowed: float
    size: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("npz", type=Path)
    parser.add_argument("--models", nargs="+", default=["small_cnn", "efficientnet_lite0"])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--overrides", nargs="*", default=["training.epochs=6"], help="of the training")
    arguments = parser.parse_args()
    runtime.configure(onednn=True, deterministic=False)
    print("| network | accuracy | draws | way | exceeds | mean drop | worst drop | size to int8 | seconds |")
    print("|---" * 9 + "|")
    for model in arguments.models:
        with tempfile.TemporaryDirectory() as folder:
            flatbuffer = trained(model, arguments.npz, arguments.overrides, Path(folder))
        data = Npz(path=str(arguments.npz), limit_train=None, limit_test=None, validation_fraction=0.1).load()
        accuracy = Judge(flatbuffer, data.test).right.mean()
        with runtime.without_greetings():
            ranges = calibrated(flatbuffer, chosen(data.train, 200))
            search = Search(
                original=flatbuffer, calibrated_model=ranges, max_drop=arguments.max_drop, report=lambda _: None
            )
            pairs = [_searched(search, *one) for one in _draws(data.test, arguments.draws, arguments.images)]
        for way, outcomes in zip(WAYS, zip(*pairs, strict=True), strict=True):
            _print(model, float(accuracy), way, outcomes)


def _print(model: str, accuracy: float, way: str, outcomes: Any) -> None:
    exceeding = sum(one.drop > one.allowed for one in outcomes)
    allowed = fmean(one.allowed for one in outcomes)
    print(
        f"| {model} | {accuracy:.1%} | {len(outcomes)} | {way} | {exceeding} (over {100 * allowed:.1f} points) "
        f"| {100 * fmean(one.drop for one in outcomes):+.2f} | {100 * max(one.drop for one in outcomes):+.2f} "
        f"| x {fmean(one.size for one in outcomes):.2f} | {fmean(one.seconds for one in outcomes):.0f} |",
        flush=True,
    )


def trained(model: str, npz: Path, overrides: list[str], folder: Path) -> bytes:
    """The float file of a network, trained by the command."""
    command = [sys.executable, "-m", "pipelines", "run", f"model={model}", "technique=baseline", "dataset=npz"]
    command += [] if model in READY else ["model.weights=null"]
    command += [f"dataset.path={npz.resolve()}", "measurement=quick", *overrides, f"hydra.run.dir={folder}/out"]
    command += [f"tracking.uri=sqlite:///{folder}/mlflow.db"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("out/*/model.tflite")
    return path.read_bytes()


def _draws(test: Split, count: int, images: int) -> Iterator[tuple[Split, Split]]:
    """Validation images and all others, which are fresh."""
    at_once = len(test) // images
    for number in range(count):
        order = np.random.default_rng(number // at_once).permutation(len(test))
        start = number % at_once * images
        yield part(test, order[start : start + images]), part(test, np.delete(order, slice(start, start + images)))


def _searched(search: Search, validation: Split, fresh: Split) -> tuple[Outcome, Outcome]:
    started = time.perf_counter()
    found = search.run(validation)
    seconds = time.perf_counter() - started
    whole, other = Judge(search.original, validation), Judge(search.original, fresh)
    within = [plan for plan in found.plans if whole.loss(search.made(plan, pack=False)).drop <= found.allowed]
    eight = len(search.made(Plan(), pack=True))

    def outcome(plan: Plan) -> Outcome:
        return Outcome(
            drop=other.loss(search.made(plan, pack=False)).drop,
            allowed=found.allowed,
            size=len(search.made(plan, pack=True)) / eight,
            seconds=seconds,
        )

    return outcome(found.plan), outcome(within[-1] if within else found.plans[0])


if __name__ == "__main__":
    main()
