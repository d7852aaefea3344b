"""Interrupts of a command's process."""

import os
import signal
import subprocess
import sys

import pytest

from tests.places import ROOT

# The signal comes within the block, once or twice.
PROGRAM = """
import os, signal, sys, time
from pipelines.system import guard
guard.install()
with guard.whole():
    for _ in range(int(sys.argv[2])):
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.1)
    print("all of the block", flush=True)
print("after it", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("times", "printed"), [(1, "all of the block\n"), (2, "")])
def test_first_interrupt_waits_for_the_end_of_a_whole_block(number: signal.Signals, times: int, printed: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(int(number)), str(times)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, printed, "opscore: interrupted\n")


def test_block_without_an_interrupt_goes_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "0", "0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "all of the block\nafter it\n")


def test_interrupt_waits_where_tracebacks_are_wanted_too() -> None:
    command = [sys.executable, "-c", PROGRAM, str(int(signal.SIGTERM)), "1"]
    variables = os.environ | {"HYDRA_FULL_ERROR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and done.stdout == "all of the block\n"
    assert done.stderr.endswith("KeyboardInterrupt\n")
