"""Which part of each budget and goal of its score profile a cell uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.results.metrics import (
    ACCURACY,
    ACCURACY_DIFFERENCE,
    COMPRESSED_BYTES,
    SIZE_RATIO,
    TEST_MS,
    TIME_RATIO,
    TRAIN_S,
)
from pipelines.results.score import Limited, used

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RecordedCell


def used_budgets(cell: RecordedCell) -> dict[str, float]:
    """The used fraction of each budget and goal that is set (`score.used`)."""
    metrics = cell.metrics
    measured = Limited(
        accuracy=metrics[ACCURACY],
        compressed_bytes=metrics[COMPRESSED_BYTES],
        test_ms=metrics[TEST_MS],
        train_s=metrics.get(TRAIN_S),
        drop=-metrics.get(ACCURACY_DIFFERENCE, 0.0),
        time_ratio=metrics.get(TIME_RATIO, 1.0),
        size_ratio=metrics.get(SIZE_RATIO, 1.0),
    )
    return used(cell.limits, measured)


def keeps_budgets(cell: RecordedCell) -> bool:
    """Whether a cell keeps every budget and goal that is set."""
    return all(fraction <= 1 for fraction in used_budgets(cell).values())
