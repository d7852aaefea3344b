"""Addresses of stores as people write them, and the refusals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.tracking.address import EMBEDDED_URI, recorded_uri, sqlite_path, sqlite_uri, tracking_uri
from pipelines.tracking.reachable import check_reachable
from tests.places import ROOT

HERE = Path.cwd()


@pytest.fixture(autouse=True)
def without_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, EMBEDDED_URI),
        ("", EMBEDDED_URI),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("http://127.0.0.1:5000\n", "http://127.0.0.1:5000"),
        (' "http://127.0.0.1:5000"\r\n', "http://127.0.0.1:5000"),
        ("HTTPS://server", "https://server"),
        ("postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("sqlite:////tmp/a b#c.db?timeout=3", "sqlite:////tmp/a b#c.db?timeout=3"),
        ("sqlite:///mlflow.db", f"sqlite:///{HERE}/mlflow.db"),
    ],
)
def test_addresses_that_mean_a_store(given: str | None, expected: str) -> None:
    assert tracking_uri(given) == expected


@pytest.mark.parametrize(
    ("given", "what", "instead"),
    [
        ("databricks", "Databricks", EMBEDDED_URI),
        ("databricks://profile", "Databricks", EMBEDDED_URI),
        ("databricks-uc", "Databricks", EMBEDDED_URI),
        ("uc:http://localhost:8080", "Databricks", EMBEDDED_URI),
        ("file:///srv/runs", "a folder", "sqlite:////srv/runs/mlflow.db"),
        ("file:runs", "a folder", f"sqlite:///{HERE}/runs/mlflow.db"),
        ("/srv/runs", "a folder", "sqlite:////srv/runs/mlflow.db"),
        ("./runs", "a folder", f"sqlite:///{HERE}/runs/mlflow.db"),
        ("runs/my.db", "a file without sqlite:///", f"sqlite:///{HERE}/runs/my.db"),
        ("sqlite:////tmp", "a folder", "sqlite:////tmp/mlflow.db"),
        ("sqlite:///:memory:", "no file", EMBEDDED_URI),
        ("sqlite:///~/my.db", "'~'", f"sqlite:///{Path.home()}/my.db"),
        ("sqlite://my.db", "none of SQLite's", "sqlite:///my.db"),
        ("sqlite:/srv/my.db", "none of SQLite's", "sqlite:////srv/my.db"),
        ("sqllite:////srv/my.db", "none of SQLite's", "sqlite:////srv/my.db"),
        ("htpp://server:5000", "does not begin with http://", "http://server:5000"),
        ("http:/server", "does not begin with http://", "http://server"),
        ("localhost:5000", "a host without http://", "http://localhost:5000"),
        ("127.0.0.1:5000", "a host without http://", "http://127.0.0.1:5000"),
        ("server.example.com:5000", "a host without http://", "http://server.example.com:5000"),
        ("http://", "no host", "http://127.0.0.1:5000"),
        ("http://s:5000/#/experiments/3/runs", "a page of MLflow's UI", "http://s:5000"),
        ("postgres://u@h/d", "does not begin with postgresql://", "postgresql://u@h/d"),
        ("mysql://u@h/d", "mlflow server --backend-store-uri mysql://u@h/d", "http://127.0.0.1:5000"),
        ("s3://bucket", "of the kind 's3'", EMBEDDED_URI),
        ("arn:aws:sagemaker:x", "of the kind 'arn'", EMBEDDED_URI),
    ],
)
def test_each_mistake_has_its_own_mend(given: str, what: str, instead: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^tracking\.uri must be a database") as refused:
        tracking_uri(given)
    assert repr(given) in str(refused.value) and what in str(refused.value)
    assert str(refused.value).endswith(f": set tracking.uri={instead}, or leave it out")
    # What it says holds: the address that it gives is one.
    tracking_uri(instead)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    with pytest.raises(ValueError, match=r"^MLFLOW_TRACKING_URI must be") as refused:
        tracking_uri(None)
    assert f": export MLFLOW_TRACKING_URI={instead}, or unset MLFLOW_TRACKING_URI" in str(refused.value)


def test_a_port_and_a_driver_must_be_there() -> None:
    with pytest.raises(
        ValueError, match=r"the port of tracking\.uri must be a number from 0 to 65535, got 'http://s:99999'"
    ):
        tracking_uri("http://s:99999")
    with pytest.raises(ValueError, match=r"without the package psycopg9: pip install psycopg9"):
        tracking_uri("postgresql+psycopg9://h/d")


@pytest.mark.parametrize("name", ["my file", "a%20b", "a#b", "a?b", "ü'\"$(x)"])
def test_a_file_of_any_name_is_found_again(name: str, tmp_path: Path) -> None:
    from sqlalchemy.engine import make_url

    path = tmp_path / name / "mlflow.db"
    uri = tracking_uri(sqlite_uri(path))
    assert sqlite_path(uri) == path
    assert make_url(uri).database == str(path)


def test_receipt_takes_its_own_stores_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "of another")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@elsewhere/db")
    assert recorded_uri("postgresql://me@host/db") == "postgresql://me@host/db"
    assert os.environ["PGPASSWORD"] == "of another"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@host/db")
    assert recorded_uri("postgresql://me@host/db") == "postgresql://me@host/db"
    assert os.environ["PGPASSWORD"] == "secret"


@pytest.mark.parametrize("name", ["run", "compare", "promote", "pull", "measure"])
def test_every_command_refuses_in_one_sentence(name: str, tmp_path: Path) -> None:
    arguments = ["dataset=digits"] if name in ("promote", "pull") else []
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", name, *arguments],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": "htpp://server:5000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr.startswith("opscore: MLFLOW_TRACKING_URI must be a database") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "postgresql://me@127.0.0.1:9/db"])
def test_refusal_names_the_setting_of_a_silent_store(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionError, match=r"or leave tracking\.uri out for the embedded store$"):
        check_reachable(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(
        ConnectionError, match=r"or unset MLFLOW_TRACKING_URI and leave tracking.uri out for the embedded"
    ):
        check_reachable(uri)
