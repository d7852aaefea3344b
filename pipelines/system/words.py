"""Parts of sentences."""

from collections.abc import Iterable, Sequence


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def some(values: Sequence[object], most: int = 3) -> str:
    """The first few, as `a, b, c and 1,200 more`."""
    more = f" and {len(values) - most:,} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + more


def one_line(message: object) -> str:
    """An error's text, or any other, in one line; the name of its type where it is empty."""
    return " ".join(str(message).split()) or type(message).__name__


def number_of(count: int, noun: str) -> str:
    """`1 cell`, `1,200 cells`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
