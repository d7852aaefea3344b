"""Errors of a command: one sentence, an exit status, and a log file if the error is a fault of opscore.

`pipelines/__init__.py` calls `install` in the processes of opscore's own commands, so that an interrupt during the
imports is handled too. `command` wraps the `main` of each command.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TypeGuard

from pipelines.system.places import PACKAGE
from pipelines.system.terminal import open_missing_streams, redirect_to_devnull

FAILURE, MISUSE, INTERRUPTED = 1, 2, 130
# The status that a shell reports for a program that SIGPIPE ended.
BROKEN_PIPE = 141
# The environment variable that requests tracebacks.
SHOW_TRACEBACK = "HYDRA_FULL_ERROR"
# opscore sets both for a while, so that Hydra raises: also for processes of a launcher that start then.
FOR_HYDRA = "OPSCORE_HYDRA_RAISES"
# Whether the user set it. As for Hydra, 0 and all but 1 request none.
TRACEBACK_REQUESTED = os.environ.get(SHOW_TRACEBACK) == "1" and not os.environ.get(FOR_HYDRA)
# The configuration or the environment is at fault: the message of the error is enough.
EXPECTED = (ValueError, OSError, RuntimeError, FloatingPointError, MemoryError)
_ELSEWHERE = "choose another with TMPDIR, and hydra.run.dir= for a cell or hydra.sweep.dir= for a sweep"
_MENDS = {
    errno.ENOSPC: f"make room on that disk, or {_ELSEWHERE}",
    errno.EDQUOT: f"make room within the quota, or {_ELSEWHERE}",
    errno.EACCES: "allow this user to use it, or choose another place",
    errno.EPERM: "allow this user to use it, or choose another place",
    errno.EROFS: "choose a place that is not read-only",
    errno.ENOENT: "correct the path",
    errno.ENOTDIR: "correct the path, which goes through a file",
    errno.EMFILE: "allow more open files with `ulimit -n 65536`",
}
_NO_TEMPORARY = "make room on one of their disks, or set TMPDIR to a folder that can be written"
_NO_FOLDER = "the working folder may have been deleted: change to another with cd"
# The module that runs a cell in a subprocess.
CHILD = "pipelines.execution.cell_main"
# Copies itself for each cell, and ends with the process that started it.
SERVER = "pipelines.system.fork_main"
# Ctrl-C, and `kill` or a scheduler.
INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_interrupts: list[int] = []
# Blocks that an interrupt waits for.
_whole: list[object] = []


class MisuseError(Exception):
    """A mistake that was found before anything was computed."""


def is_interrupt(error: BaseException | None) -> bool:
    """Whether one of INTERRUPTS caused `error`: native code may turn a KeyboardInterrupt into an error of its own."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or bool(_interrupts))


@contextmanager
def whole() -> Iterator[None]:
    """Let an interrupt wait for the end of the block; a second one does not wait. In the main thread.

    A call of a store that breaks off leaves its transaction open, and the store locked for what must be written next.
    """
    before = len(_interrupts)
    _whole.append(None)
    try:
        yield
    finally:
        _whole.pop()
    if len(_interrupts) > before:
        raise KeyboardInterrupt


def child_environment() -> dict[str, str]:
    """This process's environment for a cell's subprocess, without the variables that opscore sets for Hydra here."""
    ours = () if TRACEBACK_REQUESTED else (SHOW_TRACEBACK, FOR_HYDRA)
    return {key: value for key, value in os.environ.items() if key not in ours}


def install() -> None:
    """Print no traceback in this process: neither for its imports, nor for its threads, nor for an interrupt.

    Streams that the process was started without are opened, into nothing.
    """
    open_missing_streams()
    for number in INTERRUPTS:
        # A shell makes a command in the background ignore Ctrl-C on purpose.
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, _on_interrupt)
    if TRACEBACK_REQUESTED:
        return
    sys.excepthook = _end
    threading.excepthook = lambda raised: _report_thread(raised.exc_value)
    default = sys.unraisablehook
    sys.unraisablehook = lambda raised: (
        None if isinstance(raised.exc_value, KeyboardInterrupt | BrokenPipeError) else default(raised)
    )


def command(main: Callable[[], int | None]) -> Callable[[], None]:
    """A command that ends its process with the status that `main` returns, and never with a traceback."""

    @functools.wraps(main)
    def guarded() -> None:
        if TRACEBACK_REQUESTED:
            sys.exit(main() or 0)
        try:
            status = main() or 0
            # None where the process was started without it.
            if sys.stdout:
                sys.stdout.flush()
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 (it becomes the status)
            status = report(error)
        if status:
            sys.exit(status)

    return guarded


def report(error: BaseException, *, name: str = "", folder: Path | None = None) -> int:
    """Print an error on stderr in one sentence and return the exit status.

    name: what failed, for example a cell. folder: for the log file of an unexpected error, if it can be written there.
    """
    if is_interrupt(error):
        # Its import takes 10 ms of every start.
        from multiprocessing import parent_process

        # The process that started the cell or the pool prints it once.
        if not {CHILD, SERVER} & {*sys.orig_argv} and parent_process() is None:
            _print("opscore: interrupted")
        return INTERRUPTED
    if _is_pipe_broken() or isinstance(error, BrokenPipeError):
        return BROKEN_PIPE
    _print(f"opscore: {f'{name} failed: ' if name else ''}{sentence(error, folder=folder)}")
    return MISUSE if isinstance(error, MisuseError) else FAILURE


def sentence(error: BaseException, *, folder: Path | None = None) -> str:
    """An error in one sentence, which names the file with the traceback if the error is unexpected.

    Where the user wants tracebacks, it is printed before.
    """
    if isinstance(error, MisuseError):
        return str(error)
    if TRACEBACK_REQUESTED:
        traceback.print_exception(error)
    if _is_of_system(error):
        return _os_sentence(error)
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({first_line(error) or 'an allocation failed'}): take less at a time"
    if isinstance(error, EXPECTED) and is_refusal(error):
        return str(error) or type(error).__name__
    if type(error).__module__.startswith("mlflow"):
        return f"the tracking store refused: {first_line(error)}"
    log = _write_log(error, folder)
    where = f"the traceback is in {log}" if log else "the traceback could not be written"
    return f"{type(error).__name__}: {first_line(error) or 'no message'}; {where}"


def message(error: BaseException) -> str:
    """An error's own message; of an error of the system, the file and a mend."""
    return _os_sentence(error) if _is_of_system(error) else str(error)


def is_refusal(error: BaseException) -> bool:
    """Whether opscore's own code raised it: its messages are complete sentences, a library's are not."""
    frames = traceback.extract_tb(error.__traceback__)
    return not frames or Path(frames[-1].filename).resolve().is_relative_to(PACKAGE)


def _is_of_system(error: BaseException) -> TypeGuard[OSError]:
    return isinstance(error, OSError) and bool(error.errno and error.strerror)


def _os_sentence(error: OSError) -> str:
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    mend = _MENDS.get(error.errno or 0)
    if error.errno == errno.ENOENT and not place:
        # Of `tempfile`, which has tried several, and of a process whose folder is gone.
        mend = _NO_TEMPORARY if "temporary" in str(error.strerror) else _NO_FOLDER
    return f"{place}{error.strerror}{f': {mend}' if mend else ''}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not blank; empty where there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # SQLAlchemy's hint comes before what happened.
    return next((line for line in lines if not line.startswith("(raised as a result of")), "")


def _write_log(error: BaseException, folder: Path | None) -> Path | None:
    text = "".join(traceback.format_exception(error))
    name = f"opscore-error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    for place in (folder, Path(tempfile.gettempdir()), Path.cwd()):
        if place is not None and place.is_dir():
            try:
                (place / name).write_text(text, encoding="utf-8", errors="backslashreplace")
            except OSError:
                continue
            return place / name
    return None


def _print(text: str) -> None:
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        redirect_to_devnull(2)


def _is_pipe_broken() -> bool:
    """Whether the reader of stdout has gone, as `head` does; stdout then goes to /dev/null."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:
        redirect_to_devnull(1)
        return True
    except (OSError, ValueError):
        redirect_to_devnull(1)
    return False


def _on_interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (Python's signature)
    _interrupts.append(number)
    if len(_interrupts) > 2:
        os._exit(INTERRUPTED)  # a third Ctrl-C ends the process without cleaning up
    if not _whole or len(_interrupts) > 1:
        raise KeyboardInterrupt


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:  # noqa: ARG001
    status = report(error)
    # Python itself would exit with 1, or kill itself after an interrupt.
    os._exit(status)


def _report_thread(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit) and not is_interrupt(error):
        _print(f"opscore: a thread ended: {sentence(error)}")
