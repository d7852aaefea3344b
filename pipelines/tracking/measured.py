"""Figures that a cell's exported model was measured to have on a device, on the cell's own run.

Each device and runtime has a set of its own (`results.on_device`). Of two sessions the newer counts: a metric's step is
the second at which its session began.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.results.on_device import BEGAN, PREFIX, Figures
from pipelines.system.errors import StoreError
from pipelines.tracking.client import TEXT_CHARACTERS, live_run

if TYPE_CHECKING:
    from mlflow import MlflowClient


class LostRunError(StoreError):
    """The store has no such run, or a person deleted it."""


def record(client: MlflowClient, run_id: str, found: Figures, folder: Path) -> bool:
    """Record the figures on a run, unless it has newer ones of the same device: then gives False. May be repeated.

    found: of one session, with all TAGS. folder: its files, which go with them. Raises LostRunError, and StoreError
    where the store refuses.
    """
    try:
        return _record(client, run_id, found, folder)
    except LostRunError:
        raise
    except Exception as error:
        raise StoreError(f"the figures of run {run_id} could not be recorded ({error})") from error


def _record(client: MlflowClient, run_id: str, found: Figures, folder: Path) -> bool:
    from mlflow.entities import Metric, RunTag

    place = f"{PREFIX}/{found.target}/{found.runtime}"
    run = live_run(client, run_id)
    if run is None:
        raise LostRunError(f"the run {run_id} is lost")
    recorded, began = run.data, int(found.tags[BEGAN])
    if int(recorded.tags.get(f"{place}/{BEGAN}", 0)) > began:
        return False
    client.log_artifacts(run_id, str(folder), place)
    values = {f"{place}/{name}": value for name, value in found.metrics.items()}
    # MLflow deletes no metric, so one that only an earlier session had, perhaps a 99th percentile, becomes NaN.
    outdated = [name for name in recorded.metrics if name.rpartition("/")[0] == place and name not in values]
    values |= dict.fromkeys(outdated, math.nan)
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, began * 1000, began) for name, value in values.items()],
        tags=[RunTag(f"{place}/{name}", value[:TEXT_CHARACTERS]) for name, value in found.tags.items()],
    )
    return True
