"""Test times of cells as their baseline's time and their ratio to it give them.

A cell's own time is from the minute of its run, and a busy machine may be half as fast in the next one. The ratio was
measured in interleaved calls, in which that cancels. Cells of one baseline then compare by their ratios alone, and a
cell's score is its baseline's plus its gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.comparison.baselines import baselines_of
from pipelines.comparison.budgets import keeps_budgets
from pipelines.comparison.groups import by_conditions
from pipelines.results.metrics import GAIN, SCORE, TEST_MS, TEST_TIME, TIME_RATIO, gain_of, set_part, term_of
from pipelines.results.recorded_cell import BASELINE
from pipelines.results.score import decibels

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RecordedCell


def anchored(cells: Sequence[RecordedCell], baselines: Iterable[RecordedCell]) -> list[RecordedCell]:
    """The cells with test time, score, gain and feasibility by their ratio and the newest run of their baseline.

    baselines: of the cells, those that are not among them too; other cells may be there. A cell keeps its own time
    where its baseline was not measured under the same conditions.
    """
    others = (one for one in baselines if one.technique == BASELINE)
    groups = by_conditions({one.run_id: one for one in (*others, *cells)}.values())
    bases: dict[str, RecordedCell] = {}
    for of_one in groups.values():
        bases |= baselines_of(of_one, of_one)
    return [_anchored(cell, bases[cell.run_id]) if cell.run_id in bases else cell for cell in cells]


def headline(cell: RecordedCell) -> dict[str, float]:
    """The metrics of a cell that `anchored` changes, of those that a sweep shows."""
    return {name: cell.metrics[name] for name in (TEST_MS, SCORE, GAIN) if name in cell.metrics}


def _anchored(cell: RecordedCell, base: RecordedCell) -> RecordedCell:
    ratio = cell.metrics[TIME_RATIO]
    moved = replace(cell, metrics=retimed(cell, test_ms=ratio * base.metrics[TEST_MS], ratio=ratio))
    before, after = keeps_budgets(cell), keeps_budgets(moved)
    return moved if before == after else replace(moved, feasible=after)


def retimed(cell: RecordedCell, *, test_ms: float, ratio: float | None) -> dict[str, float]:
    """The metrics of a cell with another test time, in the score and the gain too.

    ratio: of its time to its baseline's; None for a baseline.
    """
    metrics = dict(cell.metrics)
    weight = cell.exponents[TEST_TIME]
    metrics[TEST_MS] = test_ms
    set_part(metrics, SCORE, term_of(TEST_TIME), decibels(-weight, math.log10(test_ms)))
    if ratio is not None:
        metrics[TIME_RATIO] = ratio
        set_part(metrics, GAIN, gain_of(TEST_TIME), decibels(-weight, math.log10(ratio)))
    return metrics
