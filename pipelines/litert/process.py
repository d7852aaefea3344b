"""Measuring subprocesses, from both sides.

The request is a JSON file and the answer an `.npz` file next to it, since native code may write to stdout. The answer
is written atomically.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pipelines.system import interpreter
from pipelines.system.processes import end_with_parent, ending

REQUEST, ANSWER = "request.json", "answer.npz"
STDERR_LINES = 8
Arrays = dict[str, npt.NDArray[Any]]
T = TypeVar("T")


def ask(module: str, request: Any, folder: Path, *, timeout_s: float, limit: str = "its limit") -> Arrays:
    """The answer of `python -m <module>` to a request, a dataclass.

    folder: an empty one for the exchange. limit: the name of the setting behind timeout_s.
    Raises RuntimeError that begins with "its child process" if there is no answer.
    """
    (folder / REQUEST).write_text(json.dumps(asdict(request)), encoding="utf-8")
    problem = _run(module, folder, timeout_s, limit)
    if problem is None and not (folder / ANSWER).is_file():
        problem = "ended with exit code 0 but left no result"
    if problem is not None:
        raise RuntimeError(f"its child process {problem}")
    with np.load(folder / ANSWER, allow_pickle=False) as arrays:
        return dict(arrays)


def serve(request_type: Callable[..., Any], measure: Callable[[Any], Mapping[str, Any]]) -> None:
    """In the child: carry out the request in the JSON file named on the command line.

    request_type: makes the request of the JSON's fields. measure: returns the arrays of the answer.
    """
    path = Path(sys.argv[1])
    request = request_type(**json.loads(path.read_text(encoding="utf-8")))
    partial = path.with_name(f"partial-{ANSWER}")
    try:
        answer = measure(request)
    except ChildProcessError as error:
        sys.exit(str(error))  # a traceback would only show where this process waited
    np.savez(partial, allow_pickle=False, **answer)
    partial.replace(path.with_name(ANSWER))


def in_copy(what: str, work: Callable[..., T], *arguments: Any) -> T:
    """The result of `work` in a fresh copy of this process, which ends with it. what: the copy's purpose, for errors.

    A copy takes milliseconds, a new interpreter with NumPy and LiteRT a quarter of a second. It must be made before
    this process has loaded a model: then each copy loads its models into new memory, and starts no thread twice.
    Only Linux copies safely: macOS forbids copies that use its frameworks, so `work` runs in this process there.

    Raises what `work` raises, and ChildProcessError if the copy dies.
    """
    if sys.platform != "linux":
        return work(*arguments)
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    copy = fork.Process(target=_answer, args=(os.getpid(), sender, work, arguments))
    copy.start()
    sender.close()
    try:
        succeeded, found = receiver.recv()
    except EOFError:
        copy.join()
        raise ChildProcessError(f"the process for {what} {ending(copy.exitcode or 0)} and left no result") from None
    copy.join()
    if not succeeded:
        raise found
    return found  # type: ignore[no-any-return]


def _answer(parent: int, sender: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """In the copy. It must not outlive its parent, which may be killed after a timeout."""
    end_with_parent()
    if os.getppid() != parent:
        return
    gc.freeze()  # a collection need not go through what the parent has made
    try:
        sender.send((True, work(*arguments)))
    except (ValueError, RuntimeError, OSError, MemoryError) as error:
        sender.send((False, error))


def _run(module: str, folder: Path, timeout_s: float, limit: str) -> str | None:
    """Run the child on the request in `folder`. Returns None, or how it failed, with the last lines of its output."""
    log = folder / "stderr.txt"
    with log.open("wb") as stderr:
        try:
            code = subprocess.run(
                interpreter.command(module, str(folder / REQUEST)),
                cwd=folder,
                env=interpreter.environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                timeout=timeout_s,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return f"was stopped after {limit}={timeout_s:g} seconds{_tail(log)}"
    return f"{ending(code)}{_tail(log)}" if code else None


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-STDERR_LINES:]
    return "\n".join(("; the last lines of its stderr:", *lines)) if lines else ", its stderr is empty"
