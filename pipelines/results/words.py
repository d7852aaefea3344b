"""Parts of sentences."""

from collections.abc import Iterable


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def threads_in_words(count: int) -> str:
    """`1 thread`, `2 threads`."""
    return f"{count} thread{'' if count == 1 else 's'}"
