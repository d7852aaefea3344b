"""The terminal that a command prints to."""

import math
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

# Without a terminal, as in a pipe or a file, nothing is left out of a table.
UNLIMITED = math.inf
MAX_PROSE_COLUMNS = 100


def columns() -> float:
    """The number of columns of the terminal, from COLUMNS where it is set; unlimited where there is no terminal."""
    found = shutil.get_terminal_size(fallback=(0, 0)).columns
    return found or UNLIMITED


def prose_columns(width: float) -> int:
    """How many of a terminal's columns a paragraph takes."""
    return int(min(width, MAX_PROSE_COLUMNS))


@contextmanager
def lasting() -> Iterator[None]:
    """Let no print in the block fail because the terminal was closed or a disk is full: what follows is not shown.

    A reader of a pipe that has gone is another matter, and still raises BrokenPipeError.
    """
    before = sys.stdout, sys.stderr
    # None where the process was started without it.
    sys.stdout, sys.stderr = (one and _Lasting(one) for one in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def open_missing_streams() -> None:
    """Open the null device for each of stdin, stdout and stderr that the process was started without, as by `>&-`.

    The next file that is opened would get its descriptor otherwise, and what native code prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # In their order, as a file gets the lowest descriptor that is free.
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def redirect_to_devnull(descriptor: int) -> None:
    """Send what is written from now on into nothing, also what is left in Python's buffer at the process's end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, descriptor)
    os.close(devnull)


class _Lasting:
    """A stream that goes on into nothing where it cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except BrokenPipeError:
            raise
        except OSError:
            self._give_up()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError:
            self._give_up()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self) -> None:
        redirect_to_devnull(self._stream.fileno())
