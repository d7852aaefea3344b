"""The end of a cell's process, with real processes in place of the cell's."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from pipelines.execution import cell_process
from pipelines.execution.request import CellRequest
from pipelines.results.outcome import Outcome
from pipelines.system import guard
from tests.cells.test_config import composed
from tests.places import BRIEFLY, SMALL, Place, in_background

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"


class Interrupted(subprocess.Popen[bytes]):
    """A process whose parent gets Ctrl-C while it first waits for it."""

    waits = 0

    def wait(self, timeout: float | None = None) -> int:
        self.waits += 1
        if self.waits == 1:
            raise KeyboardInterrupt
        return super().wait(timeout)


def test_time_of_day_stops_no_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    request = CellRequest(
        cell=Mock(), uri="", experiment="", since=0, patience_s=0, timeout_s=60, began=time.monotonic(), needed=True
    )
    monkeypatch.setattr(time, "time", lambda: 1e10)
    assert 50 < (request.left_s or 0) < 60


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_log_on_a_full_disk_costs_no_outcome(tmp_path: Path) -> None:
    place = Place(tmp_path)
    cell = composed("technique=baseline", *SMALL, *BRIEFLY)
    path = CellRequest(cell=cell, uri=place.uri, experiment=place.name, since=0, patience_s=0).save(tmp_path)
    (tmp_path / "full").symlink_to("/dev/full")
    child = in_background(guard.CHILD, str(path), cwd=tmp_path, variables=place.environment(), output=tmp_path / "full")
    assert child.wait(timeout=120) == 0
    assert Outcome.load(tmp_path / cell_process.CHILD_OUTCOME).status == "done"


def test_interrupt_ends_a_cell_that_does_not_react(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_process, "GRACE_S", 0.2)
    command = [sys.executable, "-c", STUBBORN]
    with Interrupted(command, stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None and child.stdout.readline()
        # As a failure of the cell, it would start the sweep's next one.
        with pytest.raises(KeyboardInterrupt):
            cell_process._wait(child, SimpleNamespace(left_s=None, needed=False))  # type: ignore[arg-type]
        assert child.wait() == -signal.SIGKILL
