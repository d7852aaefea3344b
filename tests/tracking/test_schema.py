"""Processes that open a store at once which is not there yet, or of which a part is there."""

import sqlite3
import subprocess
from collections import Counter
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from mlflow import MlflowClient

from pipelines.tracking.postgres import Postgres
from pipelines.tracking.reachable import check_reachable
from tests.places import BRIEFLY, SMALL, called, child_environment, in_background
from tests.servers import open_folder

pytestmark = pytest.mark.slow

# A module that opens a store.
OPEN = "import sys; from pipelines.tracking.store import Store; print(Store(sys.argv[1], 'mine').experiment_id)"


def test_four_processes_make_one_sqlite_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    (tmp_path / "new").mkdir()
    # Left by a process that was killed while it made the tables.
    (tmp_path / "new" / "mlflow.db.new").write_bytes(b"half")
    (tmp_path / "opening.py").write_text(OPEN)
    outputs = [tmp_path / f"{number}.txt" for number in range(4)]
    started = [
        in_background("opening", uri, cwd=tmp_path, variables=child_environment(uri), output=output)
        for output in outputs
    ]
    assert [one.wait(timeout=300) for one in started] == [0] * 4
    assert [output.read_text() for output in outputs] == ["1\n"] * 4
    assert sorted(path.name for path in (tmp_path / "new").glob("mlflow.db*")) == ["mlflow.db", "mlflow.db.lock"]


def read(uri: str, folder: Path, name: str, *arguments: str) -> str:
    """What a command says that refuses, in one line."""
    done = called("pipelines", name, *arguments, cwd=folder, variables=child_environment(uri))
    assert done.returncode != 0, done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_half_made_database_is_refused_with_a_working_mend(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    uri = f"sqlite:///{database}"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER PRIMARY KEY, name TEXT)")
    sentence = f"opscore: the database {database} must hold all of MLflow's tables, got some of them and no run"
    assert sentence in read(uri, tmp_path, "compare")
    refusal = read(uri, tmp_path, "run", "technique=baseline")
    assert sentence in refusal
    subprocess.run(["bash", "-c", refusal.split("`")[1]], check=True)
    assert not database.exists()
    (tmp_path / "opening.py").write_text(OPEN)
    assert called("opening", uri, cwd=tmp_path, variables=child_environment(uri)).stdout == "1\n"


def all_at_once(uri: str, folder: Path) -> Counter[str]:
    """Three cells and a sweep that start at once on a new store: how many runs of which name are finished."""
    cell = ["pipelines", "run", "technique=quantize_int8", *BRIEFLY, *SMALL, "training.epochs=1"]
    outputs = [folder / f"{number}.txt" for number in range(4)]
    started = [
        in_background(*cell, *flags, cwd=folder, variables=child_environment(uri), output=output)
        for flags, output in zip(([], [], [], ["-m"]), outputs, strict=True)
    ]
    assert [one.wait(timeout=600) for one in started] == [0] * 4, [output.read_text() for output in outputs]
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("opscore")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    return Counter(run.info.run_name for run in runs if "opscore.fingerprint" in run.data.tags)


ONCE_EACH = {"small_cnn-digits-baseline": 1, "small_cnn-digits-quantize_int8": 1}


def test_commands_at_once_on_a_new_sqlite_store(tmp_path: Path) -> None:
    assert all_at_once(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path) == ONCE_EACH


def test_commands_at_once_on_a_new_postgresql_database(tmp_path: Path) -> None:
    with open_folder() as folder, Postgres(folder, 40) as postgres:
        check_reachable(postgres.uri, patience_s=60)
        # What only reads makes no tables.
        for reader in (["compare"], ["pull", "dataset=digits"]):
            refusal = read(postgres.uri, tmp_path, *reader)
            assert refusal.startswith(f"opscore: there is no tracking store at {postgres.uri}: run a cell first")
        with psycopg.connect(postgres.uri.replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public'").fetchall() == []
        assert all_at_once(postgres.uri, tmp_path) == ONCE_EACH
