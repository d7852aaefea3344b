"""The baseline of a recorded cell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipelines.results.recorded_cell import BASELINE

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RecordedCell


def baselines_of(cells: Iterable[RecordedCell], among: Iterable[RecordedCell]) -> dict[str, RecordedCell]:
    """The newest baseline of each optimized cell, by the run id of the cell; without those that have none."""
    in_time = sorted((one for one in among if one.technique == BASELINE), key=lambda one: one.started)
    known = {cell.fingerprint: cell for cell in in_time}
    return {cell.run_id: known[cell.baseline] for cell in cells if cell.baseline in known}
