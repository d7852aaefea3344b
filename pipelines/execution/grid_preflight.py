"""Refuses a grid of which no cell can run, before the sweep is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pipelines.cells.compose import cell_of
from pipelines.execution import grid
from pipelines.system import guard
from pipelines.system.words import number_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipelines.cells.cell import Cell


def first_that_can_run(config: DictConfig, cells: Iterable[Sequence[str]]) -> Cell | None:
    """The first cell that can run, None of none. Raises ValueError where none can, with each reason and its number.

    config: of the grid. cells: the overrides of each.
    """
    reasons: Counter[str] = Counter()
    for overrides in cells:
        of_cell = grid.composed(config, overrides)
        found = _cell_or_reason(of_cell)
        if not isinstance(found, str):
            return found
        reasons[found] += 1
    if not reasons:
        return None
    total = sum(reasons.values())
    if len(reasons) == 1:
        only = next(iter(reasons))
        raise ValueError(f"none of the {total} cells can run: {only}" if total > 1 else only)
    listed = "".join(f"\n  {number_of(count, 'cell')}: {reason}" for reason, count in reasons.most_common())
    raise ValueError(f"none of the {number_of(total, 'cell')} can run:{listed}")


def _cell_or_reason(config: DictConfig) -> Cell | str:
    """The cell, or why it cannot run."""
    from pipelines.execution.preflight import preflight

    try:
        cell = cell_of(config)
        preflight(cell)
    except BrokenPipeError:
        # Of the terminal's side: nobody reads any more.
        raise
    except (ValueError, OSError) as error:
        return guard.message(error)
    return cell
