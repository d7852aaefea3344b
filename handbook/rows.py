"""The rows of a CSV file that `opscore compare --into` wrote."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from pipelines.comparison.exported import MARK
from pipelines.results.cell_result import Verdict


@dataclass(frozen=True, kw_only=True)
class Row:
    """An entry as it was exported.

    source: the cell of the teacher or donor, empty without one. marks, improved: as those of an entry. eligible:
    whether it keeps its budgets and has learnt something. values: the texts of all columns, by name.
    """

    dataset: str
    model: str
    technique: str
    source: str
    marks: Mapping[str, Verdict]
    improved: int | None
    eligible: bool
    values: Mapping[str, str] = field(repr=False)

    def number(self, name: str) -> float:
        """The number in a column; NaN where there is none."""
        return float(self.values.get(name) or math.nan)


def read(text: str) -> list[Row]:
    """The rows of a file that `exported.text` wrote."""
    return [_read(row) for row in csv.DictReader(io.StringIO(text))]


def _read(row: Mapping[str, str]) -> Row:
    marks = {name.removeprefix(MARK): mark for name, mark in row.items() if name.startswith(MARK) and mark}
    return Row(
        dataset=row["dataset"],
        model=row["model"],
        technique=row["technique"],
        source=row["source"],
        marks=cast("Mapping[str, Verdict]", marks),
        improved=int(row["improved"]) if row["improved"] else None,
        eligible=row["feasible"] == row["learnt"] == "True",
        values=row,
    )
