"""A password in the store's address: nowhere but in the environment, after a sweep, a failure and a sync."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pipelines.tracking.postgres import VERSION, Postgres
from pipelines.tracking.reachable import check_reachable
from tests.places import SMALL, called, empty_database
from tests.servers import ROOT, guarded, open_folder, ui

pytestmark = pytest.mark.slow

SECRET = "hunter2-sesame"
TINY = ["measurement=quick", *SMALL, "training.epochs=1"]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The address of a PostgreSQL that lets nobody in without the password."""
    with open_folder() as folder, Postgres(folder, 40) as postgres:
        trusted = postgres.uri.replace("+psycopg", "")
        check_reachable(postgres.uri, patience_s=60)
        with psycopg.connect(trusted, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE keeper LOGIN PASSWORD '{SECRET}'")
            connection.execute("CREATE DATABASE kept OWNER keeper")
        with (folder / f"postgres-{VERSION}" / "pg_hba.conf").open("w") as access:
            access.write("local all all scram-sha-256\n")
        connection = psycopg.connect(trusted)
        connection.execute("SELECT pg_reload_conf()")
        connection.close()
        yield trusted.replace("opscore@/postgres", f"keeper:{SECRET}@/kept")


def command(name: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "TF_", "PG"))}
    variables = inherited | {"PYTHONPATH": str(ROOT)} | environment
    return called("pipelines", name, *arguments, cwd=cwd, variables=variables)


@pytest.fixture(scope="module")
def done(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[subprocess.CompletedProcess[str]]]:
    """The folder in which all commands ran, and what they said: by the environment, or by an argument."""
    folder = tmp_path_factory.mktemp("leak")
    by_environment, by_argument = {"MLFLOW_TRACKING_URI": database}, f"tracking.uri={database}"
    quoted = f"tracking.uri='{database}'"
    sweep = command("run", "-m", "technique=baseline", *TINY, cwd=folder, **by_environment)
    # One recorded cell of which a server missed the end.
    (receipt,) = folder.glob("multirun/*/*/0/small_cnn-digits-baseline.run.json")
    missed = json.loads(receipt.read_text()) | {"recorded": False}
    receipt.write_text(json.dumps(missed))
    # Sent before it, one of another store, which knows no password.
    shutil.copytree(receipt.parent, folder / "multirun/0")
    of_another = missed | {"uri": f"sqlite:///{shutil.copy(empty_database(), folder / 'other.db')}"}
    (folder / "multirun/0" / receipt.name).write_text(json.dumps(of_another))
    return folder, [
        sweep,
        command("run", "technique=quantize_float16", *TINY, quoted, cwd=folder),
        command("run", "technique=distill", "technique.source.uri=runs:/" + "0" * 32, *TINY, quoted, cwd=folder),
        command("measure", "sweep=last", "profile=quick", "threads=1", "batches=none", by_argument, cwd=folder),
        command("sync", cwd=folder, **by_environment),
        command("compare", by_argument, cwd=folder),
        command("compare", by_argument.replace("tracking.uri", "uri"), cwd=folder),
        command("run", quoted.replace("tracking", "traking"), cwd=folder),
        command("run", quoted.replace(SECRET, f"{SECRET}-wrong"), cwd=folder),
    ]


def test_commands_reach_the_store(done: tuple[Path, list[subprocess.CompletedProcess[str]]]) -> None:
    _, said = done
    assert [one.returncode for one in said[:2]] == [0, 0], said[:2]
    assert said[2].returncode == 1 and "must be a finished cell" in said[2].stderr
    assert [one.returncode for one in said[3:6]] == [0, 0, 0], said[3:6]
    assert "2 cells sent" in said[4].stdout
    assert [one.returncode != 0 for one in said[6:]] == [True, True, True]
    assert "password authentication failed" in said[8].stderr and "PGPASSWORD" in said[8].stderr


def test_password_is_in_no_output(done: tuple[Path, list[subprocess.CompletedProcess[str]]]) -> None:
    assert [one.args for one in done[1] if SECRET in one.stdout + one.stderr] == []


def test_password_is_in_no_file(done: tuple[Path, list[subprocess.CompletedProcess[str]]]) -> None:
    files = [path for path in done[0].rglob("*") if path.is_file()]
    assert len(files) > 50
    assert [str(path) for path in files if SECRET.encode() in path.read_bytes()] == []


def test_password_is_in_no_row(database: str, done: tuple[Path, list[subprocess.CompletedProcess[str]]]) -> None:
    with psycopg.connect(database) as connection:
        tables = [row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        rows = [str(row) for table in tables for row in connection.execute(f'SELECT t::text FROM "{table}" t')]
    assert len(rows) > 500
    assert [row for row in rows if re.search(SECRET, row)] == []


def test_password_of_a_server(tmp_path: Path) -> None:
    """The same behind HTTP basic authentication: it is asked for with every request, exported models included."""
    behind = f"sqlite:///{shutil.copy(empty_database(), tmp_path / 'served.db')}"
    place = tmp_path / "here"
    place.mkdir()
    destination = ["--artifacts-destination", str(tmp_path / "artifacts")]
    with ui(behind, tmp_path, *destination) as server, guarded(server, "me", SECRET) as uri:
        by_environment = {"MLFLOW_TRACKING_URI": uri}
        refused = command("compare", cwd=place, MLFLOW_TRACKING_URI=uri.replace(SECRET, "wrong"))
        assert refused.returncode == 2 and "401" in refused.stderr
        assert "export MLFLOW_TRACKING_USERNAME=me MLFLOW_TRACKING_PASSWORD=..." in refused.stderr
        said = [
            refused,
            command("run", "-m", "technique=quantize_dynamic", *TINY, cwd=place, **by_environment),
            command("promote", "dataset=digits", "--dry-run", f"tracking.uri={uri}", cwd=place),
        ]
    assert [one.returncode for one in said[1:]] == [0, 0], said
    assert list((tmp_path / "artifacts").rglob("model.tflite"))
    assert SECRET not in "".join(one.stdout + one.stderr for one in said)
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert kept == []
