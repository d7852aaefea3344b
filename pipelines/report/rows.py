"""The report's table: its columns, and cells as plain values for table and interactive plot alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.comparison.entries import CRITERIA, Comparison, Entry, Estimate
from pipelines.report.words import CRITERION, variation

Value = float | int | str | bool | None
Row = dict[str, Value]
NOT_KNOWN = "–"  # noqa: RUF001 (a dash, as tables have it)


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table. about: what it holds, in words. form, factor: how a number is shown; none for words.

    interval: whether the row's `<key>_low` and `<key>_high` are shown below the value. A `z` in a form keeps a rounded
    -0.00 from being shown.
    """

    key: str
    heading: str
    about: str
    form: str = ""
    factor: float = 1.0
    interval: bool = False

    def text(self, row: Row) -> str:
        """The value of this column as it is shown."""
        return self._shown(row[self.key])

    def below(self, row: Row) -> str:
        """What is shown below the value: its interval, or what else tells the cell from others."""
        if self.key == "technique":
            return str(row["variation"])
        low, high = (row.get(f"{self.key}_{end}") for end in ("low", "high"))
        return f"{self._shown(low)} to {self._shown(high)}" if self.interval and low is not None else ""

    def _shown(self, value: Value) -> str:
        if value is None:
            return NOT_KNOWN
        if isinstance(value, bool):
            return "yes" if value else ""
        return self.form.format(value * self.factor) if self.form and not isinstance(value, str) else str(value)


COLUMNS = (
    Column(key="rank", heading="#", about="place by score within the dataset; the figures use the same numbers"),
    Column(key="model", heading="model", about="the network"),
    Column(key="technique", heading="technique", about="how it was optimized, and what tells it from cells like it"),
    Column(key="dataset", heading="dataset", about="what it was trained and tested on"),
    Column(key="score", heading="score dB", about="operational score", form="{:.2f}", interval=True),
    Column(key="gain", heading="gain dB", about="score minus the baseline's", form="{:+z.2f}", interval=True),
    *(
        Column(
            key=f"gain_{name}", heading=f"of {name}", about=f"the gain's part from {CRITERION[key]}", form="{:+z.2f}"
        )
        for key, name in zip(CRITERIA, ("accuracy", "size", "test", "train"), strict=True)
    ),
    Column(
        key="accuracy",
        heading="accuracy",
        about="share of test images that are classified right, and its 95% interval",
        form="{:.2%}",
        interval=True,
    ),
    Column(key="test_ms", heading="test ms", about="median time to classify one image, in ms", form="{:.3f}"),
    Column(key="train_s", heading="train s", about="all training that led to the file, in s", form="{:.1f}"),
    Column(key="file_bytes", heading="file kB", about="the deployed file, in 1,000 bytes", form="{:.1f}", factor=1e-3),
    Column(key="compressed_bytes", heading="packed kB", about="the file after DEFLATE", form="{:.1f}", factor=1e-3),
    Column(key="improved", heading="better in", about="in how many of accuracy, time and size", form="{:.0f} of 3"),
    Column(key="front", heading="Pareto", about="no other cell is as good in accuracy, test time and packed size"),
    Column(key="tied", heading="tied", about="its score cannot be told from the first one's"),
    Column(key="first", heading="first", about="share of all weightings under which it ranks first", form="{:.0%}"),
    Column(
        key="learnt", heading="learnt", about="right more often than always giving the most frequent class (p < 0.05)"
    ),
    Column(key="feasible", heading="in budget", about="keeps the budgets of its score profile"),
    Column(key="seeds", heading="seeds", about="how many runs, with different random seeds, were averaged"),
    Column(key="run", heading="run", about="the newest run's id in MLflow"),
)


def rows(comparisons: Sequence[Comparison]) -> list[Row]:
    """Every cell of every dataset by falling score; a value that does not exist is None."""
    return [
        _row(entry, comparison, rank)
        for comparison in comparisons
        for rank, entry in enumerate(comparison.entries, start=1)
    ]


def _row(entry: Entry, comparison: Comparison, rank: int) -> Row:
    row: Row = {
        "rank": rank,
        "model": entry.model,
        "technique": entry.technique + (f" from {entry.source}" if entry.source else ""),
        "variation": variation(entry),
        "dataset": entry.dataset,
        "improved": entry.improved,
        "front": entry.label in comparison.front,
        "tied": entry.label in comparison.tied and len(comparison.tied) > 1,
        "first": comparison.first.get(entry.label),
        "learnt": not entry.uninformed,
        "feasible": entry.feasible,
        "seeds": len(entry.runs),
        "run": entry.runs[-1].run_id[:8],
    }
    for name in ("score", "gain", "accuracy", "test_ms", "train_s", "file_bytes", "compressed_bytes"):
        estimate: Estimate = getattr(entry, name)
        row |= {name: _known(estimate.value)}
        if name in ("score", "gain", "accuracy"):
            row |= {f"{name}_low": _known(estimate.low), f"{name}_high": _known(estimate.high)}
    for key, name in zip(CRITERIA, ("accuracy", "size", "test", "train"), strict=True):
        row[f"gain_{name}"] = _known(entry.gains.get(key, math.nan))
    return row


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.7g}")
