"""Unknown training times: scores with and without the training time do not compare, so a comparison leaves it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.results.metrics import GAIN, SCORE, TRAIN_TIME, gain_of, term_of
from pipelines.results.score import STATE_TRAINED_S

if TYPE_CHECKING:
    from pipelines.results.recorded import RecordedCell


def comparable(cells: Sequence[RecordedCell]) -> list[RecordedCell]:
    """The cells, all without the score's part from the training time where that of one or more is unknown."""
    if not any(cell.train_unknown for cell in cells):
        return list(cells)
    return [_without_train_time(cell) for cell in cells]


def note(cells: Sequence[RecordedCell]) -> str | None:
    """A sentence if `comparable` leaves the training time out of scores that weigh it; else None.

    cells: before `comparable` or after it.
    """
    unknown = [cell for cell in cells if cell.train_unknown]
    if not unknown or not any(float(cell.params.get(f"score.{TRAIN_TIME}", 0)) for cell in cells):
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
