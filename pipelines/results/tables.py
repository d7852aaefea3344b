"""Rows of texts as a table: for the terminal, and in markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wcwidth import ljust, rjust, width

_BAR = re.compile(r"(?<!\\)\|")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many texts as lines, the first column to the left, all others to the right.

    Characters count by the columns that a terminal gives them: a Chinese one takes two, a vowel sign above it none.
    """
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [ljust(row[0], widths[0]), *(rjust(text, w) for text, w in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in rows
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many texts, the first of them the heading, as lines of a markdown table."""
    # A bar in a text would begin another column.
    lines = (" | ".join(_BAR.sub(r"\\|", text) for text in row) for row in rows)
    heading, *others = (f"| {line} |" for line in lines)
    return "\n".join([heading, "|---" * len(rows[0]) + "|", *others])
