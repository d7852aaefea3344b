"""Rows of texts as a table, for the terminal and in markdown, and the marked places of a page that hold one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from wcwidth import ljust, rjust, width, wrap

from pipelines.system import terminal
from pipelines.system.words import number_of

# No column is folded to fewer columns of the terminal.
MIN_FOLDED = 10
# Characters with a meaning in markdown or in GitHub's mathematics in it.
_MARKUP = re.compile(r"[\\`*<>|\[\]$&~#]|(?<!\w)_|_(?!\w)")
_BAR = re.compile(r"(?<!\\)\|")


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Rows of equally many texts as lines, the first `left` columns aligned to the left, the rest to the right.

    The width of a character is that on a terminal: two columns for a Chinese one, none for a vowel sign.
    """
    return _aligned(rows, [ljust] * left + [rjust] * (len(rows[0]) - left))


def _aligned(rows: Sequence[Sequence[str]], sides: Sequence[Callable[[str, int], str]]) -> str:
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(side(text, columns) for side, text, columns in zip(sides, row, widths, strict=True)).rstrip()
        for row in rows
    )


@dataclass(frozen=True, kw_only=True)
class TextColumn:
    """A column of a table that adapts to the terminal.

    rank: 0 for a column that is always shown; of the others, those of the highest rank are left out first. left: align
    to the left, and fold long texts where the table is too wide even so.
    """

    heading: str
    texts: Sequence[str]
    rank: int = 0
    left: bool = False


# In the place of a blank at which no line may end.
_BLANK = "\N{NO-BREAK SPACE}"


def fitted(columns: Sequence[TextColumn], limit: float, *, more: str = "--wide") -> str:
    """A table of at most `limit` columns of the terminal, as far as that goes, with a line on what it leaves out.

    columns: of equally many texts. A column without any text is left out. more: the option that shows all columns.
    """
    filled = [column for column in columns if any(column.texts)]
    if _total(filled) > limit:
        filled = [column if column.left else replace(column, heading=_in_two(column.heading)) for column in filled]
    shown = filled
    for rank in sorted({column.rank for column in filled if column.rank}, reverse=True):
        if _total(shown) > limit:
            shown = [column for column in shown if column.rank != rank]
    text = _table(_folded(shown, limit))
    hidden = len(filled) - len(shown)
    note = wrapped(f"({number_of(hidden, 'more column')}: {more})", limit)
    return f"{text}\n{note}" if hidden else text


def wrapped(sentence: str, limit: float) -> str:
    """A paragraph for a terminal of `limit` columns. A command in backticks stays in one line: a part may be valid."""
    whole = re.sub(r"`[^`]+`", lambda found: found[0].replace(" ", _BLANK), sentence)
    columns = terminal.prose_columns(limit)
    return "\n".join(wrap(whole, columns, break_long_words=False, break_on_hyphens=False)).replace(_BLANK, " ")


def _width(column: TextColumn) -> int:
    return max(width(line) for text in (column.heading, *column.texts) for line in text.split("\n"))


def _total(columns: Sequence[TextColumn]) -> int:
    return sum(map(_width, columns)) + 2 * (len(columns) - 1)


def _in_two(heading: str) -> str:
    """A heading with its last word, most often a unit, on a line of its own."""
    return "\n".join(heading.rsplit(" ", 1))


def _folded(columns: Sequence[TextColumn], limit: float) -> list[TextColumn]:
    """The columns with long texts of those to the left folded, the widest column first."""
    rooms = {at: _width(column) for at, column in enumerate(columns) if column.left}
    excess = _total(columns) - limit
    while excess > 0 and any(room > MIN_FOLDED for room in rooms.values()):
        widest = max(rooms, key=lambda at: rooms[at])
        rooms[widest] -= 1
        excess -= 1
    return [
        replace(column, texts=["\n".join(_lines(text, rooms[at])) for text in column.texts]) if at in rooms else column
        for at, column in enumerate(columns)
    ]


def _lines(text: str, room: int) -> list[str]:
    """The text in lines, broken at spaces and, in long words, after `-`, `_`, `,` and `.`, else anywhere."""
    if width(text) <= room:
        return [text]
    lines: list[str] = []
    for piece in re.findall(r"\S+?(?:[-_,.=](?=\S)|(?=\s)|$)\s*", text):
        if lines and width(lines[-1] + piece.rstrip()) <= room:
            lines[-1] += piece
        elif width(piece.rstrip()) <= room:
            lines.append(piece)
        else:
            *full, last = wrap(piece.rstrip(), room)
            lines += [*full, last + piece[len(piece.rstrip()) :]]
    return [line.rstrip() for line in lines]


def _table(columns: Sequence[TextColumn]) -> str:
    rows: list[list[str]] = []
    for texts in zip(*((column.heading, *column.texts) for column in columns), strict=True):
        rows += map(list, zip_longest(*(text.split("\n") for text in texts), fillvalue=""))
    sides = [ljust if column.left else rjust for column in columns]
    return _aligned(rows, sides)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equally many texts as a markdown table; the first row is the heading."""
    # A bar in a text would start another column.
    lines = (" | ".join(_BAR.sub(r"\\|", text) for text in row) for row in rows)
    heading, *others = (f"| {line} |" for line in lines)
    return "\n".join([heading, "|---" * len(rows[0]) + "|", *others])


def plain(text: str) -> str:
    """Text that markdown shows literally."""
    return _MARKUP.sub(r"\\\g<0>", text)


def fill_marks(page: str, mark: str, content: Callable[[re.Match[str]], str]) -> tuple[str, int]:
    """`page` with new text after each line `<!-- mark -->`, up to `<!-- end -->`, and the number of marks.

    mark: a regular expression. content: gives the text for a match. Lines end as that of their mark. Raises ValueError
    where a mark has no end before the next one, as all between them would be lost.
    """
    begin, end = re.compile(rf"<!-- {mark} -->(\r?\n)"), "<!-- end -->"
    written, at, count = [], 0, 0
    for found in begin.finditer(page):
        close = page.find(end, found.end())
        following = begin.search(page, found.end())
        if close < 0 or (following and following.start() < close):
            raise ValueError(
                f"each mark must have a line {end} below its table, got none below {found[0].strip()}: add it"
            )
        written += [page[at : found.end()], content(found).replace("\n", found.groups()[-1])]
        at, count = close, count + 1
    return "".join([*written, page[at:]]), count
