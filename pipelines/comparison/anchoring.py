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
from pipelines.comparison.budgets import used_budgets
from pipelines.comparison.groups import by_conditions
from pipelines.results.metrics import GAIN, SCORE, TEST_MS, TEST_TIME, TIME_RATIO, gain_of, set_part, term_of
from pipelines.results.recorded import BASELINE
from pipelines.results.score import decibels

if TYPE_CHECKING:
    from pipelines.results.recorded import RecordedCell


def anchored(cells: Sequence[RecordedCell], baselines: Iterable[RecordedCell]) -> list[RecordedCell]:
    """The cells with test time, score, gain and feasibility by their ratio and the newest run of their baseline.

    baselines: of the cells, those that are not among them too; other cells may be there. A cell keeps its own time
    where its baseline was not measured under the same conditions, or where its record is older than the ratio.
    """
    others = (one for one in baselines if one.technique == BASELINE)
    groups = by_conditions({one.run_id: one for one in (*others, *cells)}.values())
    bases: dict[str, RecordedCell] = {}
    for of_one in groups.values():
        bases |= baselines_of(of_one, of_one)
    return [_anchored(cell, bases[cell.run_id]) if cell.run_id in bases else cell for cell in cells]


def _anchored(cell: RecordedCell, base: RecordedCell) -> RecordedCell:
    ratio, own_ms = cell.metrics.get(TIME_RATIO), base.metrics.get(TEST_MS)
    if ratio is None or own_ms is None or cell.device:
        return cell
    metrics = dict(cell.metrics)
    metrics[TEST_MS] = ratio * own_ms
    weight = float(cell.params[f"score.{TEST_TIME}"])
    set_part(metrics, SCORE, term_of(TEST_TIME), decibels(-weight, math.log10(metrics[TEST_MS])))
    set_part(metrics, GAIN, gain_of(TEST_TIME), decibels(-weight, math.log10(ratio)))
    moved = replace(cell, metrics=metrics)
    before, after = (all(used <= 1 for used in used_budgets(one).values()) for one in (cell, moved))
    return moved if before == after else replace(moved, feasible=after)
