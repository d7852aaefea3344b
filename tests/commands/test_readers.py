"""Commands that read make nothing and refuse in one sentence; what was deleted is brought back by what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT, Place, called

READERS = [
    ("compare",),
    ("report", "out={folder}/report"),
    ("measure", "out={folder}/measured"),
    ("promote", "dataset=digits", "--dry-run"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("store"))


def call(place: Place, name: str, *arguments: str, uri: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = place.environment(PYTHONPATH=str(ROOT)) | ({"MLFLOW_TRACKING_URI": uri} if uri else {})
    words = [one.format(folder=place.folder) for one in arguments]
    return called("pipelines", name, *words, cwd=place.folder, variables=environment)


@pytest.mark.slow
@pytest.mark.parametrize("reader", [*READERS, ("pull", "dataset=digits")], ids=lambda reader: reader[0])
def test_no_store_is_made(place: Place, reader: tuple[str, ...]) -> None:
    missing = place.folder / "typo.db"
    done = call(place, *reader, uri=f"sqlite:///{missing}")
    assert done.returncode != 0
    assert re.search(r"^opscore: there is no tracking store at sqlite:///.*typo.db: run a cell first", done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert not missing.exists()


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader[0])
def test_no_experiment_is_made(place: Place, reader: tuple[str, ...]) -> None:
    done = call(place, *reader, "experiment=mien")
    assert done.returncode != 0
    assert "got 'mien'" in done.stderr and "did you mean mine?" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert place.client.get_experiment_by_name("mien") is None


@pytest.mark.slow
def test_mend_restores_a_deleted_experiment(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.client.delete_experiment(place.experiment)
    done = place.run("technique=baseline")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    restore = done.stderr.partition("bring it back with `")[2].partition("`")[0]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    subprocess.run(["bash", "-c", restore], check=True, capture_output=True, env={"PATH": path, "HOME": str(tmp_path)})
    assert place.client.get_experiment(place.experiment).lifecycle_stage == "active"
