"""Comparisons as a CSV file, a row for each entry, for spreadsheets and for pages that are written from it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.comparison.entries import Entry
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.shortlist import difference, most_accurate
from pipelines.results import columns, metrics

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RightOf

# Metrics of the runs as they are, by the name of the column.
RATIOS = {
    "time_ratio": metrics.TIME_RATIO,
    "size_ratio": metrics.SIZE_RATIO,
    "train_ratio": metrics.TRAIN_RATIO,
    "accuracy_difference": metrics.ACCURACY_DIFFERENCE,
}
OF_ONE_RUN = {
    "time_ratio_low": metrics.RATIO_LOW,
    "time_ratio_high": metrics.RATIO_HIGH,
    "accuracy_p_value": metrics.ACCURACY_P_VALUE,
}
# Of layer transfer.
TRANSFER = "transfer/"
MARK = "mark_"


def text(comparisons: Sequence[Comparison], right_of: RightOf | None = None) -> str:
    """The file: numbers with all their digits, times in ms and s, sizes in bytes, accuracies as fractions.

    What does not exist is empty. Seeds are averaged; `runs` are their ids in MLflow. drop, drop_high: how much less
    accurate than the most accurate cell, and its 95% bound by the paired difference (`shortlist.difference`).
    """
    rows = [row for comparison in comparisons for row in _rows(comparison, right_of)]
    # In the order in which they first occur: techniques have metrics of their own.
    names = list(dict.fromkeys(name for row in rows for name in row))
    written = io.StringIO()
    writer = csv.DictWriter(written, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def _rows(comparison: Comparison, right_of: RightOf | None) -> Iterator[dict[str, str]]:
    learnt = [entry for entry in comparison.entries if not entry.uninformed]
    top = most_accurate(learnt) if learnt else None
    for entry in comparison.entries:
        (device,) = entry.devices[:1] or (None,)
        row: dict[str, object] = {
            "comparison": comparison.title,
            "dataset": entry.dataset,
            "model": entry.model,
            "technique": entry.technique,
            "source": entry.source,
            "settings": entry.settings,
            "seeds": len(entry.runs),
            "runs": " ".join(run.run_id for run in entry.runs),
            "measured_on": comparison.hardware,
            "runtime": entry.runtime,
            "threads": device.threads if device else "",
            "valid": entry.is_reliable if device else "",
            "agreement": entry.agreement,
            "test_images": entry.runs[0].test_images,
        }
        for column in columns.MEASURED:
            estimate = entry.estimate(column)
            row[column.key] = estimate.value
            if column in (columns.ACCURACY, columns.SCORE):
                row |= {f"{column.key}_low": estimate.low, f"{column.key}_high": estimate.high}
        row |= {column.key: entry.estimate(column).value for column in columns.GAINS.values()}
        row |= {name: _mean(entry, metric) for name, metric in RATIOS.items()}
        # Several seeds have neither an interval of one measurement nor a p-value in common.
        alone = len(entry.runs) == 1
        row |= {name: _mean(entry, metric) if alone else math.nan for name, metric in OF_ONE_RUN.items()}
        row |= {f"{MARK}{name}": mark for name, mark in entry.marks.items()}
        row |= {
            "improved": entry.improved,
            "feasible": entry.feasible,
            "learnt": not entry.uninformed,
            "tied": entry.label in comparison.ties,
            "pareto": entry.label in comparison.front,
            "first": comparison.rank_acceptability.get(entry.label),
        }
        if top is not None and entry.runs[0].test_images:
            bound = 0.0 if entry is top else -difference(entry.runs, top.runs, right_of).low
            row |= {"drop": top.accuracy.value - entry.accuracy.value, "drop_high": bound}
        own = sorted({name for run in entry.runs for name in run.metrics if name.startswith(TRANSFER)})
        row |= {name.replace("/", "_"): _mean(entry, name) for name in own}
        yield {name: _text(value) for name, value in row.items()}


def _mean(entry: Entry, metric: str) -> float:
    """Over seeds; NaN where one lacks it."""
    return float(np.mean([run.metrics.get(metric, math.nan) for run in entry.runs]))


def _text(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.15g}" if isinstance(value, float) else str(value)
