"""Whether a cell is better than, tied with or worse than its baseline, over its seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.results.metrics import (
    ACCURACY_DIFFERENCE,
    ACCURACY_P_VALUE,
    RATIO_HIGH,
    RATIO_LOW,
    SIZE_RATIO,
    TRAIN_RATIO,
    TRAIN_RATIO_HIGH,
    TRAIN_RATIO_LOW,
)
from pipelines.results.statistics import mean_interval
from pipelines.results.verdict import accuracy_verdict, both_times, size_verdict, time_verdict

if TYPE_CHECKING:
    from pipelines.results.cell_result import Verdict
    from pipelines.results.recorded_cell import RecordedCell

# The least number of seeds whose spread is taken for that of the training time.
MIN_SEEDS = 3


def marks_of(runs: Sequence[RecordedCell]) -> dict[str, Verdict]:
    """Better or worse than the baseline where more than half of the seeds are, else tied."""
    train = [_train_interval(run) for run in runs]
    if len(runs) >= MIN_SEEDS and all(train):
        # Repeated trainings show how far their times scatter.
        over_seeds = np.exp(mean_interval([math.log(run.metrics[TRAIN_RATIO]) for run in runs]))
        train = [(float(over_seeds[0]), float(over_seeds[1]))] * len(runs)
    by_run = [_of_run(run, interval) for run, interval in zip(runs, train, strict=True)]
    marks: dict[str, Verdict] = {}
    for name in by_run[0]:
        verdicts = [one[name] for one in by_run if name in one]
        if len(verdicts) == len(runs):
            marks[name] = next((mark for mark in ("better", "worse") if verdicts.count(mark) * 2 > len(runs)), "tied")
    return marks


def _train_interval(run: RecordedCell) -> tuple[float, float] | None:
    if TRAIN_RATIO not in run.metrics or run.train_unknown:
        return None
    return run.metrics[TRAIN_RATIO_LOW], run.metrics[TRAIN_RATIO_HIGH]


def _of_run(run: RecordedCell, train: tuple[float, float] | None) -> dict[str, Verdict]:
    metrics = run.metrics
    test = metrics[RATIO_LOW], metrics[RATIO_HIGH]
    weights = run.exponents
    both = both_times(test, train, test_weight=weights["test_time"], train_weight=weights["train_time"])
    return {
        "accuracy": accuracy_verdict(metrics[ACCURACY_DIFFERENCE], metrics[ACCURACY_P_VALUE]),
        "time": time_verdict(*both),
        **({"train_time": time_verdict(*train)} if train else {}),
        "test_time": time_verdict(*test),
        "size": size_verdict(metrics[SIZE_RATIO]),
    }
