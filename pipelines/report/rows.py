"""The columns of the report's table, and cells as plain values for the table and the interactive plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.comparison.baselines import baselines_of
from pipelines.comparison.entries import Entry
from pipelines.comparison.ranking import Comparison
from pipelines.report import words
from pipelines.results import columns

Value = float | int | str | bool | None
Row = dict[str, Value]
WITH_INTERVAL = (columns.SCORE, columns.GAIN, columns.ACCURACY)
DASH = "–"  # noqa: RUF001 (as tables have it)


def _nothing(row: Row) -> str:  # noqa: ARG001 (of a column without small print)
    return ""


@dataclass(frozen=True, kw_only=True)
class TableColumn:
    """A column of the report's table.

    key: of its value in a row. cell, below: the text of a row's value, and the small print below it. is_number: whether
    its values are numbers. more: whether it is shown on demand only.
    """

    key: str
    heading: str
    about: str
    cell: Callable[[Row], str]
    below: Callable[[Row], str] = _nothing
    is_number: bool = False
    more: bool = False

    @property
    def look(self) -> str:
        """The classes of its cells in the page's style."""
        return " ".join(name for name, on in (("n", self.is_number), ("more", self.more)) if on)


def _text_of(key: str) -> Callable[[Row], str]:
    return lambda row: str(row[key])


def _yes(key: str, no: str = "") -> Callable[[Row], str]:
    return lambda row: "yes" if row[key] else no


def _measured(column: columns.Column, heading: str, text: Callable[[float], str], *, more: bool = False) -> TableColumn:
    def cell(row: Row) -> str:
        if column is columns.TRAIN_S and row["train_unknown"]:
            return columns.UNKNOWN
        value = row[column.key]
        return DASH if value is None else text(float(value))

    def interval(row: Row) -> str:
        low, high = (row.get(f"{column.key}_{end}") for end in ("low", "high"))
        return "" if low is None or high is None else f"{text(float(low)).removesuffix(' dB')} to {text(float(high))}"

    return TableColumn(
        key=column.key, heading=heading, about=column.about, cell=cell, below=interval, is_number=True, more=more
    )


def _worded(key: str, about: str) -> TableColumn:
    """On demand."""
    return TableColumn(key=key, heading=key, about=about, cell=_text_of(key), more=True)


COLUMNS = (
    TableColumn(
        key="rank",
        heading="cell",
        about="place by score within the dataset, which the figures use too; below: the settings in which cells differ",
        cell=lambda row: f"{row['rank']}. {row['model']} {row['technique']}",
        below=_text_of("variation"),
    ),
    TableColumn(
        key="dataset",
        heading="dataset",
        about="the images that it was trained and tested on",
        cell=_text_of("dataset_name"),
        below=_text_of("conditions"),
    ),
    _measured(columns.ACCURACY, "accuracy", columns.percent),
    _measured(columns.TEST_MS, "test time", columns.milliseconds),
    TableColumn(
        key="runtime",
        heading="runtime",
        about="the runtime that the test time is that of; below: what differs by it, and the times by the others that "
        "were measured",
        cell=_text_of("runtime"),
        below=lambda row: "; ".join(filter(None, (str(row["runtime_doubt"]), str(row["other_times"])))),
    ),
    _measured(columns.COMPRESSED, "size", columns.kilobytes),
    _measured(columns.SCORE, "score", words.decibels),
    _measured(columns.GAIN, "gain", words.difference),
    _measured(columns.TRAIN_S, "training", columns.seconds),
    _measured(columns.IMPROVED, "better in", columns.IMPROVED.text),
    TableColumn(
        key="front",
        heading="Pareto",
        about="no other cell is as good in accuracy, test time and compressed size",
        cell=_yes("front"),
    ),
    TableColumn(
        key="learnt",
        heading="learnt",
        about="right more often than always answering the most frequent class, or tells the classes apart (p < 0.05)",
        cell=_yes("learnt", "no"),
    ),
    TableColumn(
        key="feasible",
        heading="in budget",
        about="keeps the budgets and goals of its score profile",
        cell=_yes("feasible", "no"),
        below=lambda row: f"misses {row['missed']}" if row["missed"] else "",
    ),
    *(
        _measured(column, f"gain from {name.replace('_', ' ')}", words.difference, more=True)
        for name, column in columns.GAINS.items()
    ),
    _measured(columns.FILE, "file", columns.kilobytes, more=True),
    TableColumn(
        key="tied",
        heading="tied",
        about="its score does not differ significantly from the best cell's",
        cell=_yes("tied"),
        more=True,
    ),
    _measured(columns.FIRST, "first", columns.FIRST.text, more=True),
    _worded("seeds", "how many runs, with different random seeds, were averaged"),
    _worded("model", "the network"),
    _worded("technique", "how it was optimized"),
    _worded("run", "the newest run's id in MLflow"),
)


def rows(comparisons: Sequence[Comparison]) -> list[Row]:
    """Every cell of every dataset by falling score; a value that does not exist is None.

    `base` of an optimized cell is the place of its baseline among the rows.
    """
    found: list[Row] = []
    for comparison in comparisons:
        first, bases, names = len(found), baselines(comparison.entries), words.short_names(comparison)
        for at, (entry, base) in enumerate(zip(comparison.entries, bases, strict=True)):
            row = _row(entry, comparison, rank=at + 1)
            found.append(row | {"name": names[entry.label], "base": None if base is None else first + base})
    return found


def baselines(entries: Sequence[Entry]) -> list[int | None]:
    """The place of each entry's baseline; None for a baseline, and where its own is not among them."""
    places = {run.run_id: at for at, entry in enumerate(entries) for run in entry.runs}
    runs = [run for entry in entries for run in entry.runs]
    found = {run_id: places[base.run_id] for run_id, base in baselines_of(runs, runs).items()}
    return [next((found[run.run_id] for run in entry.runs if run.run_id in found), None) for entry in entries]


def _row(entry: Entry, comparison: Comparison, *, rank: int) -> Row:
    row: Row = {
        "rank": rank,
        "model": entry.model,
        "technique": entry.optimized_with,
        "variation": entry.settings,
        "dataset": str(comparison.title),
        "dataset_name": comparison.title.dataset,
        "conditions": comparison.title.conditions,
        "runtime": entry.runtime,
        "runtime_doubt": words.runtime_doubt(entry),
        "other_times": _other_times(entry),
        "improved": entry.improved,
        "front": entry.label in comparison.front,
        "tied": entry.label in comparison.ties,
        "first": comparison.rank_acceptability.get(entry.label),
        "learnt": not entry.uninformed,
        "feasible": entry.feasible,
        "missed": ", ".join(entry.missed),
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


def _other_times(entry: Entry) -> str:
    """The times on the runtimes of a device that were not chosen."""
    others = {name for one in entry.devices for name in one.times_ms} - {one.runtime for one in entry.devices}
    # One that not all seeds were measured on has no mean.
    known = ((name, entry.ms_on(name)) for name in sorted(others))
    times = (f"{name} {columns.milliseconds(ms)}" for name, ms in known if not math.isnan(ms))
    # A line breaks between two runtimes only.
    return ", ".join(text.replace(" ", "\N{NO-BREAK SPACE}") for text in times)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.7g}")
