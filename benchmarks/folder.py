"""A folder of images that is larger than what a cell may take of memory, through the command.

    python -m benchmarks.folder [--images 50000] [--side 224] [--place FOLDER] [--turns 5]

So many JPEGs of 10 classes are made in FOLDER, which is not timed, and kept for the next time. Two cells of `small_cnn`
with `model.input_size=32`, one epoch each, then go through the command over an empty store and an empty cache: the
first decodes, the second finds what it decoded. The table has the seconds of the cells' part `data`, as they recorded
it, and the most memory that they took: of their largest process, and of all their processes together, sampled, where
pages that several share count for each. Settings are read back from the store. At last the same network trains on 4,000
of the images from the cache and from memory, in a process each, whose epochs take turns.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.fitting import EPOCHS, Fitting, of_neighbours, rates_in_turns, wait
from benchmarks.images import CLASSES
from benchmarks.overhead import new_store

ROOT = Path(__file__).resolve().parents[1]
FITTING = 4000
CELLS = {"first": "technique=baseline", "second": "technique=quantize_int8"}
SETTINGS = ("model.input_size", "dataset.image_size", "training.epochs", "training.batch_size")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--place", type=Path, default=Path(tempfile.gettempdir()) / "opscore-benchmark-folder")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--fit", choices=["memory", "file"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    place: Path = arguments.place.absolute()
    photos = place / f"photos-{arguments.images}-{arguments.side}"
    if arguments.fit:
        _fit(photos, arguments.side, in_memory=arguments.fit == "memory")
        return
    _make(photos, arguments.images, arguments.side)
    environment = os.environ | {"OPSCORE_CACHE": str(place / "cache")}
    shutil.rmtree(place / "cache", ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        store = new_store(Path(folder))
        print("| cell | settings | images | data | to the first's | training | largest process | all processes |")
        print("|---|---|---|---|---|---|---|---|")
        first_s = 0.0
        for name, technique in CELLS.items():
            overrides = [*_overrides(photos, arguments.side), "training.epochs=1", technique]
            command = [sys.executable, "-m", "pipelines", "run", *overrides, f"tracking.uri={store}"]
            largest, together = _peaks([*command, f"hydra.run.dir={folder}/{name}"], environment)
            run = _recorded(store, technique.partition("=")[2])
            data_s = run["wall/data_s"]
            first_s = first_s or data_s
            settings = " ".join(f"`{setting}={run[setting]}`" for setting in SETTINGS)
            print(
                f"| {name}, `{technique}` | {settings} | {run['images']} | {data_s:.2f} s | {data_s / first_s:.2%} "
                f"| {run['training']} | {largest / 1e9:.2f} GB | {together / 1e9:.2f} GB |",
                flush=True,
            )
    fittings = {name: _fitting(name, arguments, environment) for name in ("file", "memory")}
    file, memory = rates_in_turns(fittings, arguments.turns).values()
    print(f"\ntraining on {FITTING:,} images, best epoch: {max(file):.0f} images/s from the cache, ", end="")
    print(f"{max(memory):.0f} from memory; median ratio of neighbours {of_neighbours(file, memory):.2f}")


def _overrides(photos: Path, side: int) -> list[str]:
    return [
        *("model=small_cnn", "model.input_size=32", "measurement=quick"),
        *("dataset=folder", f"dataset.path={photos}", f"dataset.image_size={side}"),
    ]


def _make(photos: Path, images: int, side: int) -> None:
    done = photos / ".done"
    if done.exists():
        return
    for number in range(CLASSES):
        (photos / f"class{number}").mkdir(parents=True, exist_ok=True)
    with Pool() as pool:
        pool.starmap(_make_one, [(photos, number, side) for number in range(images)], 200)
    done.touch()


def _make_one(photos: Path, number: int, side: int) -> None:
    """A JPEG of soft shapes and a little noise, in a colour of its class."""
    from PIL import Image

    rng = np.random.default_rng(number)
    colour = np.random.default_rng(number % CLASSES).integers(0, 128, 3)
    shapes = (rng.integers(0, 128, (28, 28, 3)) + colour).astype(np.uint8)
    large = np.asarray(Image.fromarray(shapes).resize((side, side), Image.Resampling.BICUBIC), np.int16)
    noisy = (large + rng.integers(-8, 9, large.shape, np.int16)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(photos / f"class{number % CLASSES}" / f"{number:06d}.jpg", quality=85)


def _peaks(command: list[str], environment: Mapping[str, str]) -> tuple[int, int]:
    """Run the command; gives the most bytes that one of its processes, and that all together, had in memory at once."""
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sys.stderr) as process:
        most, ended = [0], threading.Event()

        def sample() -> None:
            while not ended.wait(0.2):
                most.append(max(most[-1], _memory(process.pid)))

        sampler = threading.Thread(target=sample)
        sampler.start()
        # The usage of a process that ended holds that of those that it waited for.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        ended.set()
        sampler.join()
    if status:
        sys.exit(f"{' '.join(command)} ended with status {process.returncode}")
    return usage.ru_maxrss * 1024, most[-1]


def _memory(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    taken = 0
    for one in family:
        try:
            taken += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return taken


def _recorded(store: str, technique: str) -> dict[str, Any]:
    """What the cell recorded."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("opscore")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], f"tags.technique = '{technique}'")
    profiles = [json.loads(one.dataset.profile or "{}") for one in run.inputs.dataset_inputs] if run.inputs else []
    images = " and ".join(str(profile["features_shape"][0]) for profile in profiles)
    rate = run.data.metrics.get("train/images_per_s")
    training = "the first's" if rate is None else f"{rate:.0f} images/s"
    return {**run.data.params, **run.data.metrics, "images": images, "training": training}


def _fitting(name: str, arguments: argparse.Namespace, environment: Mapping[str, str]) -> Fitting:
    command = [sys.executable, "-m", "benchmarks.folder", "--images", str(arguments.images)]
    options = ["--side", str(arguments.side), "--place", str(arguments.place), "--fit", name]
    return Fitting(*command, *options, environment=environment)


def _fit(photos: Path, side: int, *, in_memory: bool) -> None:
    """The other side of `_fitting`: trains an epoch for each line that it reads."""
    from hydra import compose, initialize_config_dir

    from pipelines.cells.compose import CONF, cell_of
    from pipelines.execution.job import network_of, trainer_of
    from pipelines.execution.preflight import loaded
    from pipelines.models.complexity import macs
    from pipelines.system import runtime

    overrides = [*_overrides(photos, side), f"dataset.limit_train={FITTING}", f"dataset.limit_test={CLASSES}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cell = cell_of(compose("config", [*overrides, f"training.epochs={EPOCHS}", f"training.patience={EPOCHS}"]))
    data = loaded(cell.dataset)
    if in_memory:
        train, validation = (replace(one, images=np.array(one.images)) for one in (data.train, data.validation))
        data = replace(data, train=train, validation=validation)
    runtime.prepare(onednn=cell.model.onednn, deterministic=False)
    model = network_of(cell, data)
    print("MACS", macs(model), flush=True)
    wait()

    def report(_: int, metrics: dict[str, float]) -> None:
        print("RATE", metrics["images_per_s"], flush=True)
        wait()

    trainer_of(cell, data, on_epoch=report).fit(model, keep_best=False)


if __name__ == "__main__":
    main()
