"""The columns of the report's table, and cells as plain values for the table and the interactive plot."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pipelines.comparison.entries import BASELINE, Entry
from pipelines.comparison.ranking import Comparison
from pipelines.report.words import short_names
from pipelines.results import columns

Value = float | int | str | bool | None
Row = dict[str, Value]
WITH_INTERVAL = (columns.SCORE, columns.GAIN, columns.ACCURACY)
UNKNOWN = "–"  # noqa: RUF001 (a dash, as tables have it)


@dataclass(frozen=True, kw_only=True)
class Column(columns.Column):
    """A column of the report's table. interval: whether a row's `<key>_low` and `<key>_high` are below its value."""

    interval: bool = False

    @classmethod
    def of(cls, column: columns.Column) -> Column:
        """A column of all tables as one of the report's."""
        return cls(**asdict(column), interval=column in WITH_INTERVAL)

    def cell(self, row: Row) -> str:
        """The text of this column's value."""
        if self.key == columns.TRAIN_S.key and row["train_unknown"]:
            return columns.UNKNOWN
        return self._text(row[self.key])

    def below(self, row: Row) -> str:
        """The small print below the value: its interval, or the settings in which similar cells differ."""
        if self.key == "technique":
            return str(row["variation"])
        low, high = (row.get(f"{self.key}_{end}") for end in ("low", "high"))
        return f"{self._text(low)} to {self._text(high)}" if self.interval and low is not None else ""

    def _text(self, value: Value) -> str:
        if isinstance(value, bool):
            return "yes" if value else ""
        if value is None:
            return UNKNOWN
        return self.text(value) if self.form and not isinstance(value, str) else str(value)


COLUMNS = (
    Column(key="rank", heading="#", about="place by score within the dataset; the figures use the same numbers"),
    Column(key="model", heading="model", about="the network"),
    Column(
        key="technique",
        heading="technique",
        about="how it was optimized, and the settings in which similar cells differ",
    ),
    Column(key="dataset", heading="dataset", about="the images that it was trained and tested on"),
    *map(Column.of, (columns.SCORE, columns.GAIN, *columns.GAINS.values(), columns.ACCURACY)),
    *map(Column.of, (columns.TEST_MS, columns.TRAIN_S, columns.FILE, columns.COMPRESSED, columns.IMPROVED)),
    Column(key="front", heading="Pareto", about="no other cell is as good in accuracy, test time and compressed size"),
    Column(key="tied", heading="tied", about="its score does not differ significantly from the first one's"),
    Column.of(columns.FIRST),
    Column(
        key="learnt",
        heading="learnt",
        about="right more often than always answering the most frequent class (p < 0.05)",
    ),
    Column(key="feasible", heading="in budget", about="keeps the budgets of its score profile"),
    Column(key="seeds", heading="seeds", about="how many runs, with different random seeds, were averaged"),
    Column(key="run", heading="run", about="the newest run's id in MLflow"),
)


def rows(comparisons: Sequence[Comparison]) -> list[Row]:
    """Every cell of every dataset by falling score; a value that does not exist is None.

    `base` of an optimized cell is the place of its baseline among the rows.
    """
    found: list[Row] = []
    for comparison in comparisons:
        first, bases, names = len(found), baselines(comparison.entries), short_names(comparison)
        for at, (entry, base) in enumerate(zip(comparison.entries, bases, strict=True)):
            row = _row(entry, comparison, rank=at + 1)
            found.append(row | {"name": names[entry.label], "base": None if base is None else first + base})
    return found


def baselines(entries: Sequence[Entry]) -> list[int | None]:
    """The place of each entry's baseline: of those of its model, the one with the most settings in common."""
    of_model: dict[str, list[int]] = defaultdict(list)
    settings = [frozenset(entry.runs[0].params.items()) for entry in entries]
    for at, entry in enumerate(entries):
        if entry.technique == BASELINE:
            of_model[entry.model].append(at)
    return [
        max(of_model[entry.model], key=lambda base: len(settings[base] & settings[at]), default=None)
        if entry.technique != BASELINE
        else None
        for at, entry in enumerate(entries)
    ]


def _row(entry: Entry, comparison: Comparison, *, rank: int) -> Row:
    row: Row = {
        "rank": rank,
        "model": entry.model,
        "technique": entry.technique + (f" from {entry.source}" if entry.source else ""),
        "variation": entry.settings,
        "dataset": entry.dataset,
        "improved": entry.improved,
        "front": entry.label in comparison.front,
        "tied": entry.label in comparison.tied and len(comparison.tied) > 1,
        "first": comparison.rank_acceptability.get(entry.label),
        "learnt": not entry.uninformed,
        "feasible": entry.feasible,
        "seeds": len(entry.runs),
        "train_unknown": entry.train_unknown,
        "run": entry.runs[-1].run_id[:8],
    }
    for column in columns.MEASURED:
        estimate = entry.estimate(column)
        row[column.key] = _known(estimate.value)
        if column in WITH_INTERVAL:
            row |= {f"{column.key}_low": _known(estimate.low), f"{column.key}_high": _known(estimate.high)}
    return row | {column.key: _known(entry.estimate(column).value) for column in columns.GAINS.values()}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.7g}")
