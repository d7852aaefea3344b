"""The training time in comparisons: how far it scatters, and where it is left out.

Scores with and without it do not compare, so a comparison in which one is unknown leaves it out. So does one of cells
that were trained on different machines.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipelines.results.metrics import GAIN, OWN_TRAIN_S, SCORE, TRAIN_TIME, gain_of, term_of
from pipelines.results.score import STATE_TRAINED_S
from pipelines.results.verdict import TRAIN_SPREAD

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RecordedCell


MIN_DEGREES = 5


def comparable(cells: Sequence[RecordedCell]) -> list[RecordedCell]:
    """The cells, all without the score's part from the training time where their training times do not compare."""
    if any(cell.train_unknown for cell in cells) or len(_machines(cells)) > 1:
        return [_without_train_time(cell) for cell in cells]
    return list(cells)


def _machines(cells: Sequence[RecordedCell]) -> list[str]:
    return sorted({cell.training_machines for cell in cells})


def spread(entries: Sequence[Sequence[RecordedCell]]) -> float:
    """Standard deviation of the log time of a training that is repeated.

    entries: the runs of each, which differ in their seed alone. Pooled over them, where they show it with
    MIN_DEGREES degrees of freedom; else TRAIN_SPREAD.
    """
    own: dict[tuple[int, str], list[float]] = defaultdict(list)
    for number, runs in enumerate(entries):
        for run in runs:
            own[number, run.training_machines].append(run.metrics.get(OWN_TRAIN_S, 0.0))
    logs = [np.log(seconds) for seconds in own.values() if len(seconds) > 1 and min(seconds) > 0]
    degrees = sum(len(one) - 1 for one in logs)
    if degrees < MIN_DEGREES:
        return TRAIN_SPREAD
    return math.sqrt(sum(float(np.sum((one - one.mean()) ** 2)) for one in logs) / degrees)


def note(cells: Sequence[RecordedCell]) -> str | None:
    """A sentence if `comparable` leaves the training time out of scores that weigh it; else None.

    cells: before `comparable` or after it.
    """
    if not any(cell.exponents[TRAIN_TIME] for cell in cells):
        return None
    machines, unknown = _machines(cells), [cell for cell in cells if cell.train_unknown]
    if not unknown and len(machines) > 1:
        return (
            f"The cells were trained on different machines ({' or '.join(machines)}), whose times do not compare, so "
            "all scores here leave the training time out."
        )
    if not unknown:
        return None
    models = ", ".join(sorted({cell.model for cell in unknown}))
    return (
        f"The training time of {len(unknown)} of {len(cells)} runs ({models}) is unknown, so all scores here leave the "
        f"training time out: {STATE_TRAINED_S} counts it."
    )


def _without_train_time(cell: RecordedCell) -> RecordedCell:
    metrics = dict(cell.metrics)
    for total, part in ((SCORE, term_of(TRAIN_TIME)), (GAIN, gain_of(TRAIN_TIME))):
        # A cell whose training time is unknown has no such part.
        left_out = metrics.pop(part, 0.0)
        if total in metrics:
            metrics[total] -= left_out
    return replace(cell, metrics=metrics)
