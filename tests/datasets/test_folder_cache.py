"""Image folders in the cache, through the command."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines.system.machine import cores
from tests.places import ROOT, Place, logged_data, until

pytestmark = pytest.mark.slow

# The limits of `Place` are meant for digits.
ALL = ["dataset.limit_train=null", "dataset.limit_test=null", "training.epochs=1"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPSCORE_CACHE", str(tmp_path))
    return tmp_path / "images"


def photos(folder: Path, number: int, side: int) -> Path:
    """`number` photographs of two classes."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for index in range(number // 2):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8) // (2 if name == "cat" else 1)
            Image.fromarray(pixels).resize((side, side)).save(folder / name / f"{index}.jpg")
    return folder


def overrides(folder: Path, *more: str) -> list[str]:
    return ["dataset=folder", f"dataset.path={folder}", "dataset.image_size=16", *ALL, *more]


def test_cells_of_a_sweep_share_decoded_images(place: Place, cache: Path) -> None:
    folder = photos(place.folder / "small", 60, 20)
    assert place.run(*overrides(folder, "technique=baseline"), out="first").returncode == 0
    (made,) = cache.glob("*.npy")
    inode = made.stat().st_ino
    grid = overrides(folder, "technique=quantize_dynamic,quantize_float16")
    done = place.run("-m", *grid, "sweep.isolation=inline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.stat().st_ino for path in cache.glob("*.npy")] == [inode]  # a second decoding would have a new inode
    digests = {one.dataset.digest for run in place.cells() for one in logged_data(run)}
    assert len(place.cells()) == 3 and len(digests) == 2  # training and testing
    shown = subprocess.run(
        [sys.executable, "-m", "pipelines", "cache"],
        cwd=ROOT,
        env=place.environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert re.search(rf"60 images +16 px +{folder} +last used", shown)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        (
            {"OPSCORE_CACHE_GB": "1"},
            r"OPSCORE_CACHE_GB must leave 194\d\.\d\d GB .*, got 1: export OPSCORE_CACHE_GB=194\d",
        ),
        (
            {"OPSCORE_CACHE_GB": "1e9"},
            r"OPSCORE_CACHE must have 194\d\.\d\d GB free .*, got [\d.]+ GB in .*: make room",
        ),
        (
            {"OPSCORE_CACHE_GB": "-3"},
            r"OPSCORE_CACHE_GB must be a number above 0, .* got '-3': export OPSCORE_CACHE_GB=",
        ),
        (
            {"OPSCORE_CACHE": "/proc/none"},
            r"OPSCORE_CACHE must be a writable folder, got /proc/none: export",
        ),
    ],
)
def test_images_without_room_are_refused_in_one_sentence(
    place: Place, cache: Path, tmp_path: Path, environment: dict[str, str], sentence: str
) -> None:
    folder = photos(tmp_path / "photos", 40, 20)
    done = place.run(*overrides(folder, "technique=baseline", "dataset.image_size=127300"), **environment)
    assert done.returncode == 2
    assert re.search(rf"^opscore: {sentence}", done.stderr, re.MULTILINE), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(cache.glob("*.partial"))


def test_killed_decoding_is_taken_over_by_a_waiting_command(place: Place, cache: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", 2, 3000)
    for one in list(folder.rglob("*.jpg")):
        for index in range(1, 60):
            os.link(one, one.with_name(f"{index}.jpg"))
    given = overrides(folder, "technique=baseline")
    killed = place.start(*given)
    until(lambda: list(cache.glob("*.partial")))
    os.kill(killed.pid, signal.SIGSTOP)
    waiting = place.start(*given, out="waiting")
    until(lambda: "another process decodes these images" in (place.folder / "waiting.txt").read_text())
    workers = psutil.Process(killed.pid).children(recursive=True)
    assert len(workers) >= min(2, cores())
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []
    # The waiting process takes over.
    assert waiting.wait(300) == 0, (place.folder / "waiting.txt").read_text()
    assert len(list(cache.glob("*.npy"))) == 1
    assert not list(cache.glob("*.partial"))
