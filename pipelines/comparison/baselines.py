"""The baseline of a recorded cell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipelines.comparison.labels import FINE_TUNING, IMAGES
from pipelines.results.recorded import BASELINE

if TYPE_CHECKING:
    from pipelines.results.recorded import RecordedCell


def baselines_of(cells: Iterable[RecordedCell], among: Iterable[RecordedCell]) -> dict[str, RecordedCell]:
    """The newest baseline of each optimized cell, by the run id of the cell; without those that have none.

    It is the one of the recorded fingerprint. An older record lacks it: then it differs in the technique alone.
    """
    known: dict[str | frozenset[tuple[str, str]], RecordedCell] = {}
    for cell in sorted((one for one in among if one.technique == BASELINE), key=lambda one: one.started):
        known[cell.fingerprint] = known[_setting(cell)] = cell
    found = ((cell, known.get(cell.baseline or _setting(cell))) for cell in cells if cell.technique != BASELINE)
    return {cell.run_id: baseline for cell, baseline in found if baseline is not None}


def _setting(cell: RecordedCell) -> frozenset[tuple[str, str]]:
    """The settings that a cell shares with its baseline: those of the exported model except the technique."""
    excluded: tuple[str, ...] = ("technique.", "measurement.", "score.", "model.name", "dataset.name")
    excluded += (FINE_TUNING, *(IMAGES if cell.digest and cell.training_digest else ()))
    shared = {key: value for key, value in cell.params.items() if not key.startswith(excluded)}
    own = {"model": cell.model, "digest": cell.digest, "training_digest": cell.training_digest}
    return frozenset((shared | own).items())
