import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.system.processes import ending, start_ticks
from tests.places import ROOT, until


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "ended with exit code 3"),
        (-9, "was killed by SIGKILL"),
        # A real-time signal, which has no name.
        (-40, "was killed by signal 40"),
    ],
)
def test_ending_names_code_or_signal(code: int, words: str) -> None:
    assert ending(code) == words


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_start_is_that_of_the_process() -> None:
    started = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + start_ticks("self") / os.sysconf("SC_CLK_TCK")
    assert started == pytest.approx(psutil.Process().create_time(), abs=2)
    with pytest.raises(FileNotFoundError):
        start_ticks(2**22 + 1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_a_process_ends_with_its_parent(tmp_path: Path) -> None:
    child = (
        "import os, time; from pipelines.system.processes import end_with_parent; end_with_parent(); "
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    started = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert started.stdout is not None
    pid = int(started.stdout.readline())
    started.send_signal(signal.SIGKILL)
    started.wait()
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, seconds=20)
