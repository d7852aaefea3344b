"""Tables of cells in markdown pages, generated from the runs, so that no number is copied by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.comparison import training_time
from pipelines.comparison.entries import Entry, entries_of
from pipelines.results.columns import IMPROVED, MEASURED
from pipelines.results.tables import fill_marks, markdown
from pipelines.results.words import number_of

if TYPE_CHECKING:
    from pipelines.results.recorded import RecordedCell

COLUMNS = (*MEASURED, IMPROVED)
MARK = r"cells model=(?P<model>\S+) dataset=(?P<dataset>\S+)(?P<more>(?: \S+=\S+)*)"


def rewrite(page: str, cells: Sequence[RecordedCell]) -> str:
    """`page` with its marked tables generated anew. Raises ValueError where it has no mark, or a mark has no cell."""

    def table_of(found: re.Match[str]) -> str:
        model, dataset, more = found["model"], found["dataset"], found["more"]
        conditions = dict(condition.split("=", 1) for condition in more.split())
        chosen = [
            cell
            for cell in cells
            if (cell.model, cell.dataset) == (model, dataset) and conditions.items() <= cell.params.items()
        ]
        if not chosen:
            raise ValueError(
                f"a table needs model={model} dataset={dataset}{more}, got no finished cell like that: run it"
            )
        return table(chosen)

    written, count = fill_marks(page, MARK, table_of)
    if not count:
        raise ValueError("the file must hold a line <!-- cells model=<model> dataset=<dataset> --> and <!-- end -->")
    return written


def table(cells: Sequence[RecordedCell]) -> str:
    """The newest cell of each technique and source as a markdown table, the baseline first, then by falling gain.

    A sentence below it states where the training time is left out of the scores.
    """
    newest: dict[tuple[str, str], RecordedCell] = {}
    for cell in sorted(cells, key=lambda cell: cell.started):
        newest[cell.technique, cell.source] = cell
    shown = list(newest.values())
    entries = [entries_of([cell])[0] for cell in training_time.comparable(shown)]
    entries.sort(key=lambda entry: -np.nan_to_num(entry.gain.value, nan=math.inf))
    heading = ["technique", *(column.heading for column in COLUMNS)]
    rows = [_row(entry) for entry in entries]
    if devices := {(one.target, one.threads) for entry in entries for one in entry.devices}:
        heading.append("runtime")
        rows = [[*row, entry.runtime] for row, entry in zip(rows, entries, strict=True)]
    notes = [f"Times are those on {target} with {number_of(threads, 'thread')}." for target, threads in sorted(devices)]
    notes += [note] if (note := training_time.note(shown)) else []
    return "\n".join([markdown([heading, *rows]), *(f"\n{note}" for note in notes)]) + "\n"


def _row(entry: Entry) -> list[str]:
    technique = f"`{entry.technique}`" + (f" from `{entry.source}`" if entry.source else "")
    return [technique, *map(entry.format_estimate, COLUMNS)]
