"""A store that was moved, copied, or belongs to somebody else, through the command in processes of its own."""

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipelines.tracking import moved
from pipelines.tracking.address import sqlite_uri
from tests.places import ROOT, called, unprivileged

pytestmark = pytest.mark.slow


def command(
    store: Path, name: str, *arguments: str, extra: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """A command of opscore on the store in a folder, in an environment without TensorFlow's variables."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "TF_"))}
    variables = inherited | {"MLFLOW_TRACKING_URI": sqlite_uri(store / "mlflow.db")} | (extra or {})
    words = ["pipelines", name, *arguments]
    if not options:
        return called(*words, cwd=ROOT, variables=variables)
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT, env=variables, capture_output=True, text=True, check=False, **options,
    )  # fmt: skip


def cell(store: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    settings = ["dataset.limit_train=800", "training.epochs=6", "measurement=quick"]
    folder = f"hydra.run.dir={shlex.quote(str(store.parent / 'out'))}"
    return command(store, "run", "technique=quantize_int8", *settings, folder, *arguments, **options)


def refused(done: subprocess.CompletedProcess[str], *sentences: str) -> None:
    """Before anything was trained, in one sentence."""
    assert done.returncode != 0 and "training for" not in done.stdout, done.stdout
    assert "Traceback" not in done.stderr and all(one in done.stderr for one in sentences), done.stderr


def places(store: Path) -> list[Path]:
    """Every path of artifacts in the database but that of MLflow's own experiment, which holds nothing."""
    with closing(sqlite3.connect(store / "mlflow.db")) as connection:
        values = [
            value for table, column in moved.COLUMNS for (value,) in connection.execute(f"SELECT {column} FROM {table}")
        ]
    return [path for path in map(moved._local, values) if path is not None and path.name != "0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a store with a cell, its baseline and a champion was moved from `my store` to `50% & new`."""
    place = tmp_path_factory.mktemp("place")
    first = place / "my store"
    first.mkdir()
    done = cell(first)
    assert done.returncode == 0, done.stdout + done.stderr
    done = command(first, "promote", "dataset=digits")
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copytree(first, place / "second")
    first.rename(place / "50% & new")
    return place


def test_moved_store_is_followed(place: Path) -> None:
    old, new = place / "my store", place / "50% & new"
    done = cell(new)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reused  " in done.stdout and "training for" not in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if "was moved" in line]
    assert str(new / "artifacts") in line and str(old / "artifacts") in line
    assert all(path.is_relative_to(new) for path in places(new)) and not old.exists()


def test_copy_has_its_own_artifacts(place: Path) -> None:
    new, copy = place / "50% & new", place / "copy"
    moved.repair(sqlite_uri(new / "mlflow.db"))
    shutil.copytree(new, copy)
    done = command(copy, "compare", "dataset=digits")
    assert done.returncode == 0 and "is a copy" in done.stderr, done.stderr
    assert all(path.is_relative_to(copy) for path in places(copy))
    assert all(path.is_relative_to(new) for path in places(new))
    # A database that is copied alone, or with a part of its artifacts, shares those of the original.
    shutil.rmtree(next(path for path in (copy / "artifacts").iterdir() if path.name != "models"))
    shutil.copy(new / "mlflow.db", copy / "mlflow.db")
    moved.repair(sqlite_uri(copy / "mlflow.db"))
    assert all(path.is_relative_to(new) for path in places(copy))


def test_champion_is_pulled_from_where_the_store_is(place: Path) -> None:
    second = place / "second"
    done = command(second, "pull", "dataset=digits", f"out={place / 'pulled'}")
    assert done.returncode == 0 and "opscore: the store" in done.stderr, done.stdout + done.stderr
    assert (place / "pulled" / "model.tflite").is_file() and not (place / "my store").exists()
    again = command(second, "promote", "dataset=digits", "--dry-run")
    assert "opscore: the store" not in again.stderr and "lost" not in again.stdout + again.stderr


def test_store_without_its_artifacts_trains_nothing(place: Path) -> None:
    alone = place / "alone"
    shutil.copytree(place / "second", alone)
    moved.repair(sqlite_uri(alone / "mlflow.db"))
    away = place / "away"
    alone.rename(away)
    (away / "artifacts").rename(place / "kept")
    done = cell(away)
    refused(done, "2 finished cells", f"no folder {alone / 'artifacts'}", str(away / "artifacts"))
    assert not alone.exists() and not (away / "artifacts").exists()
    # The mend of the sentence.
    (place / "kept").rename(away / "artifacts")
    moved.prepare(sqlite_uri(away / "mlflow.db"), "opscore")
    assert all(path.is_relative_to(away) for path in places(away))


@pytest.mark.parametrize("closed", ["mlflow.db", "."])
def test_read_only_store_is_known_before_the_training(place: Path, tmp_path: Path, closed: str) -> None:
    theirs = tmp_path / "their store"
    shutil.copytree(place / "second", theirs)
    moved.repair(sqlite_uri(theirs / "mlflow.db"))
    (theirs / closed).chmod(0o444 if closed == "mlflow.db" else 0o555)
    home = {"HOME": str(tmp_path)}
    try:
        done = cell(theirs, "seed=1", preexec_fn=unprivileged, extra=home)
        refused(done, "tracking.uri must be", "read-only: copy")
        mend, setting = re.findall(r"copy it with `(.+)` and set (.+)", done.stderr)[0]
        subprocess.run(["bash", "-c", mend], check=True)
        reader = command(theirs, "compare", "dataset=digits", preexec_fn=unprivileged)
        assert reader.returncode == 0, reader.stderr
        refused(command(theirs, "promote", "dataset=digits", preexec_fn=unprivileged), "read-only: copy it with")
    finally:
        theirs.chmod(0o755)
    mine = cell(theirs, *shlex.split(setting), preexec_fn=unprivileged)
    assert mine.returncode == 0 and "reused  " in mine.stdout and "is a copy" in mine.stderr, mine.stderr


def test_unwritable_artifacts_are_refused_before_training(place: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(place / "second", theirs)
    moved.repair(sqlite_uri(theirs / "mlflow.db"))
    (theirs / "artifacts").chmod(0o555)
    try:
        refused(cell(theirs, "seed=1", preexec_fn=unprivileged), "keeps its artifacts in", "nothing can be written")
    finally:
        (theirs / "artifacts").chmod(0o755)


def test_sync_follows_the_store(place: Path) -> None:
    second = place / "second"
    (receipt,) = (place / "out").rglob("small_cnn-digits-quantize_int8.run.json")
    address = json.loads(receipt.read_text())
    assert "my store" in address["uri"]
    receipt.write_text(json.dumps(address | {"recorded": False}))
    elsewhere = command(place, "sync", str(place / "out"))
    assert elsewhere.returncode == 1 and "export MLFLOW_TRACKING_URI=" in elsewhere.stderr
    done = command(second, "sync", str(place / "out"))
    assert done.returncode == 0 and "1 cell sent" in done.stdout, done.stdout + done.stderr
    assert not (place / "my store").exists()


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("file:///a/50%25%20b/artifacts", "/a/50% b/artifacts"),
        ("file://localhost/a", "/a"),
        ("/a/b c", "/a/b c"),
        ("file:////a", "/a"),
        ("file://host/a", None),
        ("s3://bucket/a", None),
        ("mlflow-artifacts:/1", None),
        ("models:/m-1", None),
        ("./mlruns/1", None),
        (None, None),
    ],
)
def test_local_folders_are_recognized(text: str | None, folder: str | None) -> None:
    assert moved._local(text) == (Path(folder) if folder else None)
