"""Runs a cell in a subprocess.

The child frees its memory when it ends, reads TensorFlow's oneDNN setting for its own model, and cannot take the parent
down with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.execution.request import CellRequest
from pipelines.results.outcome import Outcome
from pipelines.system import fork_server, guard, runtime
from pipelines.system.processes import ending

if TYPE_CHECKING:
    from pipelines.cells.cell import Cell

# In the child's folder: its outcome and its output.
CHILD_OUTCOME, LOG = "cell.outcome.json", "cell.log"
LAST_LINES = 5
GRACE_S = 10.0
LAST_WORDS_S = 0.2


def run_in_subprocess(
    request: CellRequest,
    folder: Path,
    *,
    environment: Mapping[str, str | None] | None = None,
    to_log: bool = False,
) -> Outcome:
    """Run a cell in a child process; gives its outcome, even where the child was killed.

    folder: receives the request, the outcome and, with `to_log`, the output, which otherwise goes to this process's
    stdout. environment: changes to this process's variables; None removes one.
    """
    result = folder / CHILD_OUTCOME
    result.unlink(missing_ok=True)
    variables, onednn = _variables(request.cell, environment or {}), request.cell.model.onednn
    with (folder / LOG).open("ab") if to_log else contextlib.nullcontext() as log:
        out, err = (log.fileno(), log.fileno()) if log else (1, 2)
        # In a session of its own, so that its own children can be stopped with it.
        child = fork_server.start(
            guard.CHILD, str(request.save(folder)), variables=variables, onednn=onednn, stdout=out, stderr=err
        )
        problem = _wait(child, request)
    if result.exists():
        return Outcome.load(result)
    return _lost(request, child.pid, problem, folder / LOG if to_log else None)


def prepare(cell: Cell) -> None:
    """Load the libraries of a cell's process ahead, and return at once."""
    fork_server.prepare(_variables(cell, {}), onednn=cell.model.onednn)


def failed(message: str, name: str = "") -> Outcome:
    """The outcome of a failed cell, without its place in the grid and its time."""
    return Outcome(name=name, status="failed", message=message)


def _variables(cell: Cell, changes: Mapping[str, str | None]) -> dict[str, str]:
    tensorflow = runtime.variables(onednn=cell.model.onednn, deterministic=cell.deterministic)
    variables = {**guard.child_environment(), **tensorflow, **changes}
    return {name: value for name, value in variables.items() if value is not None}


def _wait(child: fork_server.Process, request: CellRequest) -> str:
    """Wait for the child and kill what remains of it; gives how it ended, in words."""
    try:
        code = child.wait(request.left_s)
        problem = ending(code)
        if code < 0:
            # A shell of the child's session writes what native code said last (runtime.without_greetings).
            time.sleep(LAST_WORDS_S)
    except subprocess.TimeoutExpired:
        problem = f"was stopped after sweep.timeout_s={request.timeout_s:g} seconds"
    except BaseException:
        # Ctrl-C reaches this process alone: pass it on, so that the cell can close its run. Not as SIGINT, which is
        # ignored in what a script runs in the background.
        _signal(child, signal.SIGTERM)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # The cell that needs it must close its own run afterwards.
                child.wait(GRACE_S / 2 if request.needed else GRACE_S)
        finally:
            _signal(child, signal.SIGKILL)
        raise
    _signal(child, signal.SIGKILL)
    child.wait()
    return problem


def _signal(child: fork_server.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _lost(request: CellRequest, pid: int, problem: str, log_path: Path | None) -> Outcome:
    """Close the runs of a child that ended without an outcome."""
    message = reason = f"its process {problem}"
    if log_path is not None:
        last = log_path.read_text(errors="replace").splitlines()[-LAST_LINES:]
        message = f"{reason}; its output is in {log_path}"
        reason = f"{reason}; the last lines of {log_path}:\n" + "\n".join(last)
    closed = request.store().close(pid, reason, log_path)
    # It may have been running its baseline.
    own = (run_id for run_id, name in closed.items() if name == request.cell.name)
    return replace(failed(message, request.cell.name), run_id=next(own, ""))
