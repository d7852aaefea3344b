"""The shortlist as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pipelines.comparison.entries import Entry
from pipelines.comparison.shortlist import Shortlist, Shortlisted
from pipelines.results import columns
from pipelines.results.tables import aligned

COLUMNS = (columns.TEST_MS, columns.COMPRESSED, columns.TRAIN_S, columns.SCORE)
HEADING = ("lose", "cell", "settings", columns.ACCURACY.heading, "95%", *(column.heading for column in COLUMNS))


def text(shortlist: Shortlist) -> str:
    """Warnings, the table, doubts, and a line each for the smallest and the fastest cell."""
    top = shortlist.most_accurate
    rows = [[*HEADING, "smaller", "faster"], *(_row(row, top) for row in shortlist.rows)]
    if not any(row.entry.settings for row in shortlist.rows):
        rows = [[*row[:2], *row[3:]] for row in rows]
    lines = [
        *shortlist.warnings,
        f"Most accurate: {top.label}, {columns.ACCURACY.text(top.accuracy.value)}. "
        "The fittest cell that loses at most:",
        aligned(rows, left=len(rows[0]) - len(COLUMNS) - 4),
        *(f"{row.entry.label}: {row.doubt}." for row in shortlist.rows if row.doubt),
        *extremes(shortlist),
    ]
    return "\n".join(lines)


def extremes(shortlist: Shortlist) -> Iterator[str]:
    """A sentence each for the smallest and the fastest cell."""
    for what, entry, column in (
        ("Smallest", shortlist.smallest, columns.COMPRESSED),
        ("Fastest", shortlist.fastest, columns.TEST_MS),
    ):
        unit = column.heading.rpartition(" ")[2]
        value = entry.estimate(column).value
        lost = shortlist.drop(entry)
        less = "as accurate" if math.isclose(lost, 0, abs_tol=5e-5) else f"{100 * lost:.1f} points less accurate"
        less = "the most accurate" if entry is shortlist.most_accurate else less
        yield f"{what}: {entry.label}, {column.text(value)} {unit}, {less}."


def _row(row: Shortlisted, top: Entry) -> list[str]:
    entry = row.entry
    low, high = entry.accuracy.low, entry.accuracy.high
    return [
        row.given_up,
        entry.name + (" (not sure)" if row.doubt else ""),
        entry.settings,
        columns.ACCURACY.text(entry.accuracy.value),
        "-" if math.isnan(low) else f"{low:.1%} to {high:.1%}",
        *map(entry.format_estimate, COLUMNS),
        *(["", ""] if entry is top else [_times(row.times_smaller), _times(row.times_faster)]),
    ]


def _times(ratio: float) -> str:
    return "-" if math.isnan(ratio) else f"x {ratio:.2f}"
