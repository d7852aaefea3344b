"""The process of MLflow's server."""

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.system import interpreter
from pipelines.tracking import server_main


@pytest.mark.slow
def test_log_ends_with_the_error_of_a_failed_migration(tmp_path: Path) -> None:
    # MLflow waits longer for a database that does not answer.
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        database.execute("INSERT INTO alembic_version VALUES ('of_another_program')")
    variables = interpreter.environment({**os.environ, server_main.STORE: f"sqlite:///{tmp_path / 'mlflow.db'}"})
    command = interpreter.command(server_main.__name__)
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback (most recent call last):" in done.stderr and "opscore: " not in done.stderr
