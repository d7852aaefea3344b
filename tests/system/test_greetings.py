"""What native libraries print on the terminal, from real file descriptors."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.system import machine, runtime

GREETING = "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
NO_CUDA = "E0000 00:00:1.1   1 cuda_platform.cc:52] failed call to cuInit: UNKNOWN ERROR (303)"
PROBLEM = "E0000 00:00:1.1   1 stream.cc:5] out of memory"


@pytest.fixture
def native(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Writes lines to the descriptor of stderr, as native code does; `driver`: as on a machine that has CUDA."""

    def write(*lines: str, driver: bool) -> None:
        path = tmp_path / "driver"
        if driver:
            path.touch()
        monkeypatch.setattr(machine, "GPU_DRIVERS", (path,))
        with runtime.without_greetings():
            for line in lines:
                os.write(2, f"{line}\n".encode())

    with caplog.at_level(logging.INFO, "native"):
        yield write


def test_greetings_go_to_the_log_and_problems_are_shown(
    native: Callable[..., None], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    native(GREETING, NO_CUDA, PROBLEM, driver=False)
    assert capfd.readouterr().err == f"{PROBLEM}\n"
    assert [record.message for record in caplog.records] == [GREETING, NO_CUDA]


def test_a_driver_that_does_not_start_is_shown(native: Callable[..., None], capfd: pytest.CaptureFixture[str]) -> None:
    native(NO_CUDA, driver=True)
    assert "cuInit" in capfd.readouterr().err


def test_a_process_that_native_code_aborts_shows_its_problems() -> None:
    program = (
        "import os; from pipelines.system.runtime import without_greetings\n"
        f"with without_greetings():\n    os.write(2, b'{GREETING}\\n{PROBLEM}\\n'); os.abort()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGABRT and done.stderr.splitlines() == [PROBLEM]


def test_a_block_that_fails_shows_its_problems() -> None:
    program = (
        "import os; from pipelines.system.runtime import without_greetings\n"
        f"with without_greetings():\n    os.write(2, b'{PROBLEM}\\n'); raise SystemExit('ended')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.splitlines() == [PROBLEM, "ended"]
