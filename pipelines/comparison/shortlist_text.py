"""The shortlist as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pipelines.comparison.entries import Entry
from pipelines.comparison.shortlist import Shortlist, points
from pipelines.results import columns
from pipelines.results.on_device import SAME
from pipelines.results.score import ROUNDING
from pipelines.results.tables import TextColumn, fitted, wrapped
from pipelines.system import terminal

# The columns of figures, with the rank by which a narrow table leaves them out.
COLUMNS = ((columns.TEST_MS, 0), (columns.COMPRESSED, 0), (columns.TRAIN_S, 4), (columns.SCORE, 1))


def text(shortlist: Shortlist, *, width: float = terminal.UNLIMITED, more: str = "--wide") -> str:
    """For a terminal of `width` columns: warnings, the table, doubts, and a line for the smallest and fastest cell.

    more: what shows all columns.
    """
    top = shortlist.most_accurate
    lines = [
        *shortlist.warnings,
        f"Most accurate: {top.label}, {columns.ACCURACY.text(top.accuracy.value)}. "
        "The fittest cell that loses at most:",
        "",
        *(f"{row.entry.label}: {row.doubt}." for row in shortlist.rows if row.doubt),
        *extremes(shortlist),
    ]
    return "\n".join(wrapped(line, width) if line else _table(shortlist, width, more) for line in lines)


def titled(dataset: str, shortlist: Shortlist, width: float, more: str) -> str:
    """The same below the name of its comparison."""
    return f"{wrapped(dataset, width)}\n{text(shortlist, width=width, more=more)}"


def _table(shortlist: Shortlist, width: float, more: str) -> str:
    rows, top = shortlist.rows, shortlist.most_accurate
    entries = [row.entry for row in rows]
    others = [row for row in rows if row.entry is not top]
    return fitted(
        [
            TextColumn(heading="lose", texts=[row.given_up for row in rows], left=True),
            TextColumn(heading="model", texts=[entry.model for entry in entries], left=True),
            TextColumn(
                heading="technique",
                texts=[row.entry.optimized_with + row.mark for row in rows],
                left=True,
            ),
            TextColumn(heading="settings", texts=[entry.short_settings for entry in entries], left=True),
            *runtimes(entries),
            TextColumn(heading="accuracy", texts=[columns.ACCURACY.text(entry.accuracy.value) for entry in entries]),
            TextColumn(heading="95%", texts=[entry.format_interval() for entry in entries], rank=3),
            *(
                TextColumn(heading=one.heading, texts=[entry.format_estimate(one) for entry in entries], rank=rank)
                for one, rank in COLUMNS
            ),
            TextColumn(heading="smaller", texts=[_factor(row.times_smaller, row in others) for row in rows], rank=2),
            TextColumn(heading="faster", texts=[_factor(row.times_faster, row in others) for row in rows], rank=2),
        ],
        width,
        more=more,
    )


def times(ratio: float, more: str, less: str) -> str:
    """A ratio as `4.00 times smaller`; empty where it is unknown or about 1."""
    if math.isnan(ratio) or abs(ratio - 1) < SAME:
        return ""
    return f"{columns.three_digits(max(ratio, 1 / ratio))} times {more if ratio > 1 else less}"


def runtimes(entries: Sequence[Entry]) -> list[TextColumn]:
    """The runtime of each entry on a device; none where all have one."""
    names = [entry.runtime for entry in entries]
    return [TextColumn(heading="runtime", texts=names, left=True)] if len(set(names)) > 1 else []


def extremes(shortlist: Shortlist) -> Iterator[str]:
    """A sentence each for the smallest and the fastest cell."""
    for what, entry, column in (
        ("Smallest", shortlist.smallest, columns.COMPRESSED),
        ("Fastest", shortlist.fastest, columns.TEST_MS),
    ):
        unit = column.heading.rpartition(" ")[2]
        value = entry.estimate(column).value
        lost = shortlist.drop(entry)
        less = "as accurate" if lost < ROUNDING else f"{points(lost)} less accurate"
        less = "the most accurate" if entry is shortlist.most_accurate else less
        yield f"{what}: {entry.label}, {column.text(value)} {unit}, {less}."


def _factor(ratio: float, shown: bool) -> str:
    if not shown:
        return ""
    return "-" if math.isnan(ratio) else f"x {columns.three_digits(ratio)}"
