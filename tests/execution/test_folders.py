"""Two commands that start at once, each in a process of its own, keep apart what they leave in folders."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest

from pipelines.execution import folders
from pipelines.execution.executor import Executor
from tests.places import ROOT, Place, in_background, until

pytestmark = pytest.mark.slow


def test_folder_belongs_to_one_process(tmp_path: Path) -> None:
    place = Place(tmp_path)
    first = place.start("technique=baseline", "training.epochs=2000", "training.patience=2000", out="shared")
    until((tmp_path / "shared" / folders.LOCK).exists)
    for flags in ([], ["-m"]):
        second = place.run(*flags, "technique=baseline", out="shared")
        assert second.returncode == 2
        assert re.search(
            rf"hydra.(run|sweep).dir must be a folder in which no other command is at work, got {tmp_path}/shared",
            second.stderr,
        )
    first.kill()
    first.wait()
    # The lock ends with its process.
    folders.claim(tmp_path / "shared", "hydra.run.dir")


def test_cells_of_one_name_get_folders_of_their_own(tmp_path: Path) -> None:
    unused = Mock()
    executor = Executor(store=unused, request=unused, folder=tmp_path / "out")
    with ThreadPoolExecutor(8) as pool:
        places = list(pool.map(lambda _: executor._new_folder("cell"), range(40)))
    assert len(set(places)) == 40
    assert all(place.is_dir() for place in places)


def test_sweeps_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    place = Place(tmp_path)

    def command(width: int) -> list[str]:
        arguments = ["-m", "technique=baseline", f"model.width={width}", "training.epochs=1"]
        return [one for one in place.command(*arguments) if not one.startswith("hydra.")]

    # Their folders are below the one in which they are called.
    environment = place.environment(PYTHONPATH=str(ROOT))
    started = [
        in_background(*command(width)[2:], cwd=tmp_path, variables=environment, output=tmp_path / f"{width}.txt")
        for width in (8, 12)
    ]
    statuses = [one.wait(timeout=300) for one in started]
    outputs = [(tmp_path / f"{width}.txt").read_text() for width in (8, 12)]
    assert statuses == [0, 0], outputs
    found = [re.search(r"1 cell, in (.*)", out) for out in outputs]
    assert found[0] and found[1] and found[0][1] != found[1][1]
    for out, width in zip(outputs, (8, 12), strict=True):
        assert out.count("small_cnn-digits-baseline") >= 1
        assert "[1/1]" in out and "[2/1]" not in out, width
