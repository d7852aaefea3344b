"""Which part of each budget and goal of its score profile a cell uses."""

from __future__ import annotations

import math
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
from pipelines.results.score import BUDGETS, GOALS, ROUNDING

if TYPE_CHECKING:
    from pipelines.results.recorded import RecordedCell


def used_budgets(cell: RecordedCell) -> dict[str, float]:
    """The used fraction of each budget that is set; above 1 the budget is broken. Infinite for an unknown time."""
    used = {
        "max_size_mb": cell.metrics[COMPRESSED_BYTES] / 1e6,
        "max_test_ms": cell.metrics[TEST_MS],
        "max_train_s": cell.metrics.get(TRAIN_S, math.inf),
    }
    given = {name: cell.params.get(f"score.{name}", "None") for name in BUDGETS}
    ratios = {name: used[name] / float(given[name]) for name in used if given[name] != "None"}
    if given["min_accuracy"] != "None":
        ratios["min_accuracy"] = float(given["min_accuracy"]) / max(cell.metrics[ACCURACY], 1e-9)
    return ratios | _goals(cell)


def _goals(cell: RecordedCell) -> dict[str, float]:
    """As `used_budgets`, of the goals relative to the baseline. A baseline is as fast and as large as itself."""
    given = {name: cell.params.get(f"score.{name}", "None") for name in GOALS}
    goals = {name: float(value) for name, value in given.items() if value != "None"}
    drop, goal = -cell.metrics.get(ACCURACY_DIFFERENCE, 0.0), goals.get("max_accuracy_drop", 0.0)
    used = {
        # A goal of 0 is missed by any drop.
        "max_accuracy_drop": 0.0 if drop <= goal + ROUNDING else drop / goal if goal else math.inf,
        "min_speedup": goals.get("min_speedup", 0.0) * cell.metrics.get(TIME_RATIO, 1.0),
        "min_size_reduction": goals.get("min_size_reduction", 0.0) * cell.metrics.get(SIZE_RATIO, 1.0),
    }
    return {name: used[name] for name in goals}
