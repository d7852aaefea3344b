"""A place for artifacts that cannot be written is known before the training."""

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipelines.tracking import artifacts
from pipelines.tracking.artifacts import _is_shared
from tests.places import Place, empty_database
from tests.servers import ui

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SQLite store with its schema, which two servers serve one after the other."""
    return f"sqlite:///{shutil.copy(empty_database(), tmp_path_factory.mktemp('store'))}"


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that not even root can make: what should hold it is a file."""
    (tmp_path / "file").touch()
    return tmp_path / "file" / "artifacts"


def refused(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = place.run("technique=baseline", *arguments)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "keeps its artifacts in" in done.stderr and "where nothing can be written" in done.stderr, done.stderr
    assert place.cells() == []
    return done


def test_server_that_cannot_write_where_it_serves_from(store: str, closed: Path, tmp_path: Path) -> None:
    with ui(store, tmp_path, "--artifacts-destination", str(closed)) as uri:
        place = Place(tmp_path, uri, "proxied")
        done = refused(place)
        assert "start the server with an --artifacts-destination that it may write to" in done.stderr
        assert "training for" not in done.stdout and not list(tmp_path.rglob("*.keras"))
        assert refused(place, "-m").returncode == 2
        assert place.sweeps() == []


def test_server_that_names_a_folder_of_its_own_machine(
    store: str, closed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ui(store, tmp_path, "--no-serve-artifacts", "--default-artifact-root", str(closed)) as uri:
        place = Place(tmp_path, uri, "direct")
        assert "--serve-artifacts and set tracking.experiment" in refused(place).stderr
        # On another machine the folder would be made here, where the server never finds it.
        client = MlflowClient(uri)
        far = client.get_experiment(client.create_experiment("far", artifact_location="/server/only/4"))
        monkeypatch.setattr(artifacts, "_is_here", lambda host: False)
        with pytest.raises(PermissionError, match="a folder of the server's machine that is not on this one: mount it"):
            artifacts.check_writable(far, uri)
        assert not Path("/server").exists()


def test_server_behind_a_tunnel_has_other_files(store: str, tmp_path: Path) -> None:
    served, ours = tmp_path / "server", tmp_path / "ours"
    (served / "far").mkdir(parents=True)
    ours.mkdir()
    direct = MlflowClient(store)
    experiment = direct.create_experiment("tunnel", artifact_location=ours.as_uri())
    run = direct.create_run(experiment).info
    direct.set_terminated(run.run_id)
    with ui(store, served) as uri:
        there = direct.get_experiment(experiment)
        # A run without files tells nothing.
        artifacts.check_writable(there, uri)
        # Relative to the server's working folder: as on another machine, it is not what is here.
        with closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as database, database:
            database.execute("UPDATE runs SET artifact_uri = 'far' WHERE run_uuid = ?", (run.run_id,))
        (served / "far" / "model.tflite").touch()
        done = Place(tmp_path, uri, "other").run("tracking.experiment=tunnel")
        assert done.returncode != 0 and "a folder of the server's machine that is not on this one" in done.stderr
        assert "training for" not in done.stdout and "Traceback" not in done.stderr
        shutil.move(served / "far" / "model.tflite", ours)
        with closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as database, database:
            database.execute("UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?", (ours.as_uri(), run.run_id))
        artifacts.check_writable(there, uri)


def test_probe_leaves_nothing(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    made = client.get_experiment(client.create_experiment("mine", (tmp_path / "my artifacts").as_uri()))
    artifacts.check_writable(made, uri)
    assert not list((tmp_path / "my artifacts").iterdir())
    assert artifacts._is_here("localhost") and not artifacts._is_here("192.0.2.1")


def test_database_on_another_machine_names_folders_of_any() -> None:
    """MLflow puts artifacts into the folder of whoever makes the experiment."""
    folder = Path("/nowhere/photos/mlruns/1")
    assert not _is_shared(folder, "postgresql://me@no-such-host.invalid/opscore")
    # Which is made by the first file.
    assert _is_shared(Path.cwd() / "mlruns/7", "postgresql://me@no-such-host.invalid/opscore")
    assert _is_shared(folder, "postgresql://me@127.0.0.1/opscore") and _is_shared(folder, "sqlite:////data/mlflow.db")
