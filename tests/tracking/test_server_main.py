"""The process of MLflow's server."""

import os
import subprocess
from pathlib import Path

import pytest

from pipelines.system import interpreter
from pipelines.tracking import server_main


@pytest.mark.slow
def test_log_ends_with_the_error_of_a_failed_migration(tmp_path: Path) -> None:
    # Nothing listens on port 1.
    variables = interpreter.environment({**os.environ, server_main.STORE: "postgresql+psycopg://a@127.0.0.1:1/b"})
    command = interpreter.command(server_main.__name__)
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback (most recent call last):" in done.stderr and "opscore: " not in done.stderr
