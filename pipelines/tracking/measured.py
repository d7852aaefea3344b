"""Figures that a finished cell's artifact was measured to have on a target, on the cell's own run.

All of them are below `measure/<target>/`, so that a cell that is measured on two targets keeps both. Measured again on
the same one, the newest figures count: a metric's step is the second at which the session began.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.system.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient

PREFIX = "measure"
# What MLflow keeps of a tag on every kind of store.
TAG_CHARACTERS = 5000


@dataclass(frozen=True, kw_only=True)
class OnTarget:
    """What one session found out about one artifact.

    began: seconds since 1970. metrics: by name below `measure/<target>/`. invalid: why they do not count; empty where
    they do. folder: its files.
    """

    target: str
    began: int
    hardware: Mapping[str, Any]
    metrics: Mapping[str, float]
    invalid: str
    folder: Path


def record(client: MlflowClient, run_id: str, found: OnTarget) -> None:
    """Put the figures on a run; may be repeated. Where newer ones of the same target are there, they stay.

    Raises StoreError where the store refuses.
    """
    try:
        _record(client, run_id, found)
    except Exception as error:
        raise StoreError(f"run {run_id} could not be given its figures ({error})") from error


def _record(client: MlflowClient, run_id: str, found: OnTarget) -> None:
    from mlflow.entities import Metric, RunTag

    place = f"{PREFIX}/{found.target}"
    there = client.get_run(run_id).data
    if int(there.tags.get(f"{place}/began", 0)) > found.began:
        return
    client.log_artifacts(run_id, str(found.folder), place)
    own = {f"{place}/{name}": value for name, value in found.metrics.items()}
    # MLflow deletes no metric. What only an earlier session gave, a 99th percentile perhaps, must not stand beside.
    outdated = [name for name in there.metrics if name.startswith(f"{place}/") and name not in own]
    values = own | dict.fromkeys(outdated, math.nan)
    tags = {"began": str(found.began), "hardware": json.dumps(found.hardware), "invalid": found.invalid or "no"}
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, found.began * 1000, found.began) for name, value in values.items()],
        tags=[RunTag(f"{place}/{name}", value[:TAG_CHARACTERS]) for name, value in tags.items()],
    )
