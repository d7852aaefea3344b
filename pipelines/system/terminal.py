"""The terminal that a command prints to."""

import math
import shutil

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
