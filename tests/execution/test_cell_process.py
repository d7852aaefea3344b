"""The end of a cell's process, with real processes in place of the cell's."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pipelines.execution import cell_process

STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"


class Interrupted(subprocess.Popen[bytes]):
    """A process whose parent gets Ctrl-C while it first waits for it."""

    waits = 0

    def wait(self, timeout: float | None = None) -> int:
        self.waits += 1
        if self.waits == 1:
            raise KeyboardInterrupt
        return super().wait(timeout)


def test_interrupt_ends_a_cell_that_does_not_react(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_process, "GRACE_S", 0.2)
    command = [sys.executable, "-c", STUBBORN]
    with Interrupted(command, stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None and child.stdout.readline()
        # As a failure of the cell, it would start the sweep's next one.
        with pytest.raises(KeyboardInterrupt):
            cell_process._wait(child, SimpleNamespace(left_s=None, needed=False))  # type: ignore[arg-type]
        assert child.wait() == -signal.SIGKILL
