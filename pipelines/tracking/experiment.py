"""Opening an experiment of a tracking store, for reading or with all that is missing."""

from __future__ import annotations

import re
import shlex
from functools import partial
from typing import TYPE_CHECKING

from pipelines.results.metrics import GAIN, SCORE
from pipelines.system.checks import did_you_mean
from pipelines.system.errors import StoreError
from pipelines.system.guard import first_line
from pipelines.tracking import moved, schema, view
from pipelines.tracking.address import sqlite_path
from pipelines.tracking.client import connected, retry_on_conflict
from pipelines.tracking.tags import NOTE

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT_TAGS = {
    NOTE: "One run per cell: model x dataset x technique x seed. Sort by "
    f"`{SCORE}`; `{GAIN}` is the technique's gain over its baseline."
}


def reading_client(uri: str) -> MlflowClient:
    """A client of a store in which nothing is made. Raises StoreError where the store does not exist or is broken."""
    schema.check_exists(uri)
    moved.repair(uri)
    try:
        schema.check_whole(uri)
        return connected(uri)
    except (OSError, StoreError):
        raise
    except Exception as error:
        raise cannot_be_opened(uri, error) from error


def find(client: MlflowClient, uri: str, name: str) -> str:
    """The id of an experiment. Raises StoreError where it does not exist or was deleted."""
    found = _found(client, uri, name)
    if found is None:
        there = [each.name for each in client.search_experiments()]
        raise StoreError(
            f"experiment must be one of {', '.join(there)}, got {name!r}, which is not in {uri}"
            f"{did_you_mean(name, there)}"
        )
    return found


def find_or_create(client: MlflowClient, uri: str, name: str) -> str:
    """The id of an experiment, which is created if it does not exist. Raises StoreError where it was deleted."""
    found = _found(client, uri, name)
    if found is not None:
        return found
    # By default, MLflow puts the artifacts into the current folder.
    database = sqlite_path(uri)
    location = (database.resolve().parent / "artifacts").as_uri() if database is not None else None
    try:
        return str(client.create_experiment(name, artifact_location=location))
    except Exception:
        # Another process may have created it in the meantime.
        found = _found(client, uri, name)
        if found is None:
            raise
        return found


def show_in_ui(client: MlflowClient, experiment_id: str) -> None:
    """Give MLflow's UI a description of the experiment, unless it has one, and the columns to show."""
    tags = client.get_experiment(experiment_id).tags
    for key, value in {**EXPERIMENT_TAGS, view.TAG: view.state()}.items():
        if key not in tags or (key == view.TAG and tags[key] != value):
            retry_on_conflict(partial(client.set_experiment_tag, experiment_id, key, value))


def cannot_be_opened(uri: str, error: Exception) -> StoreError:
    """The refusal for a store whose client raised `error`."""
    mend = "correct it, or set tracking.uri to another store"
    # MLflow's client words a status like this; the number alone may also be part of a path or an id.
    if re.search(r"error code (401|403)\b", str(error)):
        mend = (
            "give it a user that may write with `export MLFLOW_TRACKING_USERNAME=me MLFLOW_TRACKING_PASSWORD=...`, or "
            "MLFLOW_TRACKING_TOKEN"
        )
    # SQLAlchemy adds the statement, and a web server that is not MLflow's a page.
    reason = first_line(error).partition(" Response body: '<")[0]
    return StoreError(f"the tracking store {uri} cannot be opened ({reason}): {mend}")


def _found(client: MlflowClient, uri: str, name: str) -> str | None:
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise StoreError(
            f"the experiment {name!r} of {uri} was deleted: bring it back with `MLFLOW_TRACKING_URI="
            f"{shlex.quote(uri)} mlflow experiments restore -x {found.experiment_id}`, or choose another with "
            "tracking.experiment="
        )
    return None if found is None else str(found.experiment_id)
