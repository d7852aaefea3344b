"""Tables of cells inside markdown pages, written anew from the runs, so that no number is copied by hand."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.comparison.entries import Entry, entries_of
from pipelines.results.columns import IMPROVED, MEASURED
from pipelines.results.tables import markdown

if TYPE_CHECKING:
    from pipelines.results.recorded import RecordedCell

COLUMNS = (*MEASURED, IMPROVED)
_PLACE = re.compile(r"(<!-- cells model=(\S+) dataset=(\S+)((?: \S+=\S+)*) -->\n).*?(<!-- end -->)", re.DOTALL)


def rewrite(page: str, cells: Sequence[RecordedCell]) -> str:
    """`page` with its marked tables made anew. Raises ValueError where it has no mark, or a mark has no cell."""

    def table_of(found: re.Match[str]) -> str:
        begin, model, dataset, more, end = found.groups()
        conditions = dict(condition.split("=", 1) for condition in more.split())
        chosen = [
            cell
            for cell in cells
            if (cell.model, cell.dataset) == (model, dataset) and conditions.items() <= cell.params.items()
        ]
        if not chosen:
            asked = f"model={model} dataset={dataset}{more}"
            raise ValueError(f"a table asks for {asked}, of which no finished cell is recorded")
        return begin + table(chosen) + end

    written, count = _PLACE.subn(table_of, page)
    if not count:
        raise ValueError("the file must hold a line <!-- cells model=<model> dataset=<dataset> --> and <!-- end -->")
    return written


def table(cells: Sequence[RecordedCell]) -> str:
    """The newest cell of each technique and source as a markdown table, by falling gain, the baseline first."""
    newest: dict[tuple[str, str], RecordedCell] = {}
    for cell in sorted(cells, key=lambda cell: cell.started):
        newest[cell.technique, cell.source] = cell
    entries = [entries_of([cell])[0] for cell in newest.values()]
    entries.sort(key=lambda entry: -math.inf if math.isnan(entry.gain.value) else -entry.gain.value)
    heading = ["technique", *(column.heading for column in COLUMNS)]
    return markdown([heading, *map(_row, entries)]) + "\n"


def _row(entry: Entry) -> list[str]:
    technique = f"`{entry.technique}`" + (f" from `{entry.source}`" if entry.source else "")
    return [technique, *map(entry.format_estimate, COLUMNS)]
