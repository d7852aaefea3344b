"""Terminals that are closed, and disks that are full."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT, Place, until

CODE = """
import sys
from pipelines.system.terminal import lasting
with lasting():
    for number in range(3):
        print(number, flush=True)
print("still here", file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk_breaks_no_print() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", CODE]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "still here\n")


def test_a_process_without_streams_prints_nothing() -> None:
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" >&- 2>&-', sys.executable, CODE], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_command_opens_the_streams_that_it_lacks(tmp_path: Path) -> None:
    """As a progress bar and a silenced native library use them."""
    program = f"""
import os, sys
sys.argv[0] = "opscore"
import pipelines, subprocess
from pipelines.system.runtime import without_greetings
with without_greetings():
    print("shown", sys.stdout.isatty(), sys.stdin.read(), file=sys.stderr, flush=True)
file = os.open({str(tmp_path / "file")!r}, os.O_CREAT | os.O_WRONLY)
subprocess.run(["sh", "-c", "echo native; echo native >&2"], check=True)
os.write(file, str(file).encode())
"""
    closed = ["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, program]
    assert subprocess.run(closed, cwd=ROOT, check=False).returncode == 0
    assert int((tmp_path / "file").read_text()) > 2


@pytest.mark.slow
def test_a_closed_terminal_ends_no_training(tmp_path: Path) -> None:
    place = Place(tmp_path)
    command = place.command("technique=baseline", "training.epochs=30", "training.patience=30")
    ours, its = os.openpty()
    # In a session without a terminal of its own, as after `disown`: no signal tells it.
    run = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, cwd=ROOT, env=place.environment(), start_new_session=True
    )
    os.close(its)
    shown = bytearray()

    def training() -> bool:
        shown.extend(os.read(ours, 10_000))
        return b"epoch 1 of 30: " in shown

    until(training)
    os.close(ours)
    assert run.wait(timeout=300) == 0
    (cell,) = place.cells()
    assert cell.info.status == "FINISHED"
