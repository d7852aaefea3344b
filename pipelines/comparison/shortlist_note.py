"""The shortlist as a note in MLflow, markdown. It is narrow: MLflow's page would scroll sideways for a wide one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pipelines.comparison.entries import Entry
from pipelines.comparison.shortlist import Shortlist, Shortlisted, points
from pipelines.comparison.shortlist_text import extremes, times
from pipelines.results import columns
from pipelines.results.score import ROUNDING
from pipelines.results.tables import markdown, plain
from pipelines.system import words

HEADING = ("lose at most", "cell", columns.ACCURACY.heading, columns.TEST_MS.heading, columns.COMPRESSED.heading)


def note(lists: Mapping[str, Shortlist]) -> str:
    """The answer, the table and the doubts of each shortlist, by the name of its comparison."""
    return "\n\n".join(_section(dataset, listed) for dataset, listed in lists.items())


def _section(dataset: str, listed: Shortlist) -> str:
    chosen = listed.recommended
    doubts = [f"{plain(row.entry.label)}: {row.doubt}." for row in listed.rows if row.doubt]
    table = markdown([HEADING, *map(_row, listed.rows)])
    return "\n\n".join([" ".join(_answer(dataset, listed, chosen)), table, *_paragraphs([*listed.warnings, *doubts])])


def _answer(dataset: str, listed: Shortlist, chosen: Shortlisted) -> Iterator[str]:
    """Which cell is fittest, with its figures, and the most accurate, smallest and fastest cells."""
    entry, top = chosen.entry, listed.most_accurate
    yield f"**Fittest for {plain(dataset)}: {plain(entry.label)}**, {_accuracy(entry)}, {_ms(entry)}, {_kb(entry)}."
    if entry is not top:
        ratios = times(chosen.times_smaller, "smaller", "larger"), times(chosen.times_faster, "faster", "slower")
        changed = words.listed([one for one in ratios if one] or ["neither smaller nor faster"])
        loss = f"loses {points(chosen.drop)} to" if chosen.drop >= ROUNDING else "is as accurate as"
        yield f"It {loss} the most accurate cell, {plain(top.label)}, and is {changed}."
    ends = {"most accurate": top, "smallest": listed.smallest, "fastest": listed.fastest}
    if own := [what for what, other in ends.items() if other is entry]:
        yield f"It is the {words.listed(own)} cell."
    for sentence, other in zip(extremes(listed), (listed.smallest, listed.fastest), strict=True):
        if other is not entry:
            yield plain(sentence)


def _row(row: Shortlisted) -> list[str]:
    entry = row.entry
    return [
        row.given_up,
        plain(entry.label + row.mark),
        columns.ACCURACY.text(entry.accuracy.value),
        columns.TEST_MS.text(entry.test_ms.value),
        columns.COMPRESSED.text(entry.compressed_bytes.value),
    ]


def _accuracy(entry: Entry) -> str:
    interval = "" if math.isnan(entry.accuracy.low) else f" (95%: {entry.format_interval()})"
    return f"{columns.ACCURACY.text(entry.accuracy.value)} accurate{interval}"


def _ms(entry: Entry) -> str:
    return f"{columns.TEST_MS.text(entry.test_ms.value)} ms an image"


def _kb(entry: Entry) -> str:
    return f"{columns.COMPRESSED.text(entry.compressed_bytes.value)} kB compressed"


def _paragraphs(sentences: list[str]) -> list[str]:
    return [" ".join(sentences)] if sentences else []
