"""Rows of texts as a table, for the terminal and in markdown, and the marked places of a page that hold one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from wcwidth import ljust, rjust, width

_BAR = re.compile(r"(?<!\\)\|")


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Rows of equally many texts as lines, the first `left` columns aligned to the left, the rest to the right.

    The width of a character is that on a terminal: two columns for a Chinese one, none for a vowel sign.
    """
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    sides = [ljust] * left + [rjust] * (len(widths) - left)
    return "\n".join(
        "  ".join(side(text, columns) for side, text, columns in zip(sides, row, widths, strict=True)).rstrip()
        for row in rows
    )


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many texts as a markdown table; the first row is the heading."""
    # A bar in a text would start another column.
    lines = (" | ".join(_BAR.sub(r"\\|", text) for text in row) for row in rows)
    heading, *others = (f"| {line} |" for line in lines)
    return "\n".join([heading, "|---" * len(rows[0]) + "|", *others])


def fill_marks(page: str, mark: str, content: Callable[[re.Match[str]], str]) -> tuple[str, int]:
    """`page` with new text after each line `<!-- mark -->`, up to `<!-- end -->`, and the number of marks.

    mark: a regular expression. content: gives the text for a match.
    """
    pattern = re.compile(rf"(?P<begin><!-- {mark} -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
    return pattern.subn(lambda found: found["begin"] + content(found) + found["end"], page)
