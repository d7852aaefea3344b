"""Figures that a cell's exported model was measured to have on a device, on the cell's own run.

Each device and runtime has a set of its own (`results.on_device`). Of two sessions the newer counts: a metric's step is
the second at which its session began.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.results.on_device import BEGAN, HARDWARE, INVALID, PRECISION, PREFIX, REFERENCE, VERSION
from pipelines.system.errors import StoreError
from pipelines.tracking.client import TEXT_CHARACTERS, live_run

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True, kw_only=True)
class OnTarget:
    """The figures of one exported model in one session.

    target: the device's name. runtime, version, precision: its name, its version and what it computed in. began:
    seconds since 1970. metrics: by name below `measure/<device>/<runtime>/`. invalid: why they do not count; empty
    where they do. reference: what the ratios are to, `<runtime> <SHA-256 of the file>`, its own where it is that
    itself. folder: its files.
    """

    target: str
    runtime: str
    version: str
    precision: str
    began: int
    hardware: Mapping[str, Any]
    metrics: Mapping[str, float]
    invalid: str
    reference: str
    folder: Path


class LostRunError(StoreError):
    """The store has no such run, or a person deleted it."""


def record(client: MlflowClient, run_id: str, found: OnTarget) -> bool:
    """Record the figures on a run, unless it has newer ones of the same device: then gives False. May be repeated.

    Raises LostRunError, and StoreError where the store refuses.
    """
    try:
        return _record(client, run_id, found)
    except LostRunError:
        raise
    except Exception as error:
        raise StoreError(f"the figures of run {run_id} could not be recorded ({error})") from error


def _record(client: MlflowClient, run_id: str, found: OnTarget) -> bool:
    from mlflow.entities import Metric, RunTag

    place = f"{PREFIX}/{found.target}/{found.runtime}"
    run = live_run(client, run_id)
    if run is None:
        raise LostRunError(f"the run {run_id} is lost")
    recorded = run.data
    if int(recorded.tags.get(f"{place}/{BEGAN}", 0)) > found.began:
        return False
    client.log_artifacts(run_id, str(found.folder), place)
    values = {f"{place}/{name}": value for name, value in found.metrics.items()}
    # MLflow deletes no metric, so one that only an earlier session had, perhaps a 99th percentile, becomes NaN.
    outdated = [name for name in recorded.metrics if name.rpartition("/")[0] == place and name not in values]
    values |= dict.fromkeys(outdated, math.nan)
    tags = {
        BEGAN: str(found.began),
        INVALID: found.invalid or "no",
        HARDWARE: json.dumps(found.hardware),
        VERSION: found.version,
        PRECISION: found.precision,
        REFERENCE: found.reference,
    }
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, found.began * 1000, found.began) for name, value in values.items()],
        tags=[RunTag(f"{place}/{name}", value[:TEXT_CHARACTERS]) for name, value in tags.items()],
    )
    return True
