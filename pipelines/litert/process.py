"""A process of its own for what is measured, and how it answers.

The request is a JSON file, the answer an `.npz`, whole or not at all: native code is free to write to stdout.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

STDERR_LINES = 8
Arrays = dict[str, npt.NDArray[Any]]


def ask(module: str, request: Mapping[str, Any], folder: Path, *, timeout_s: float, limit: str) -> Arrays:
    """What `python -m <module>` answers to a request, which names the file for it as `result`.

    folder: an empty one for the exchange. limit: the name of the setting behind timeout_s.
    Raises RuntimeError that begins with "its child process" where no answer comes back.
    """
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    problem = _run(module, folder, timeout_s, limit)
    if problem is None and not Path(request["result"]).is_file():
        problem = "ended with exit code 0 but left no result"
    if problem is not None:
        raise RuntimeError(f"its child process {problem}")
    with np.load(request["result"], allow_pickle=False) as arrays:
        return dict(arrays)


def answer(result: str, found: Mapping[str, Any]) -> None:
    """In the child: leave what was found in the file `result`."""
    partial = Path(f"{result}.partial.npz")
    np.savez(partial, allow_pickle=False, **found)
    partial.replace(result)


def _run(module: str, folder: Path, timeout_s: float, limit: str) -> str | None:
    """Run the child on `folder`/request.json. Gives None, or how it ended and what it said last."""
    here = str(Path(__file__).resolve().parents[2])
    inherited = os.environ.get("PYTHONPATH")
    path = here if not inherited else os.pathsep.join((here, inherited))
    said = folder / "stderr.txt"
    with said.open("wb") as stderr:
        try:
            code = subprocess.run(
                [sys.executable, "-m", module, str(folder / "request.json")],
                cwd=folder,  # `-m` looks here first: no foreign `pipelines` may stand in the way
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                timeout=timeout_s,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return f"was stopped after {limit}={timeout_s:g} seconds{_tail(said)}"
    if code < 0:
        return f"was killed by {_signal_name(-code)}{_tail(said)}"
    return f"ended with exit code {code}{_tail(said)}" if code else None


def _signal_name(number: int) -> str:
    known = {one.value: one.name for one in signal.Signals}
    return known.get(number, f"signal {number}")


def _tail(said: Path) -> str:
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()[-STDERR_LINES:]
    return "\n".join(("; the last lines of its stderr:", *lines)) if lines else ", its stderr is empty"
