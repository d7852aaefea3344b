"""MLflow's client, configured for opscore."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from pipelines.tracking.address import checked
from pipelines.tracking.credentials import split
from pipelines.tracking.reachable import AWAY

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

T = TypeVar("T")
# MLflow's limit for a tag and for a text of a registered model, on every kind of store.
TEXT_CHARACTERS = 5000
REGISTRY = "MLFLOW_REGISTRY_URI"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
# Addresses that this process has set itself.
_PINNED: set[str] = set()


def connected(uri: str) -> MlflowClient:
    """A client of the store, which becomes this process's store and registry, as `quieten` configures it.

    Claims and champions are in the registry of the same store, so that all shells share them.
    """
    _pin_registry(uri)
    quieten()
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(uri, registry_uri=uri)


def quieten() -> None:
    """Let MLflow give up after seconds, and log neither errors that it also raises nor files of the current folder."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow's default of seven tries takes minutes, in which a cell's training would wait.
    os.environ.setdefault(RETRIES, "3")
    # It would add the current folder's uv.lock and pyproject.toml to each model, and serve it in their environment.
    os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
    # Migrations of a new store, and the start of every monitor.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A traceback of each database error, which is raised as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # Each retry of each request, while a server does not answer.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


# Statuses of a server that is busy, or away behind a proxy, and how MLflow words them and requests without an answer.
_BUSY = (408, 429, 500, *map(int, AWAY))
_AWAY = re.compile(rf"failed with (timeout )?exception|failed with error code ({'|'.join(map(str, _BUSY))})\b")
# Of SQLite, whose disk does not change by waiting.
_FULL = re.compile("disk is full|readonly|read-only")


@contextmanager
def retries(count: int) -> Iterator[None]:
    """Within the block, MLflow repeats a failed request at most `count` times."""
    before = os.environ.get(RETRIES)
    os.environ[RETRIES] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ[RETRIES]
        else:
            os.environ[RETRIES] = before


def may_pass(error: BaseException | None) -> bool:
    """Whether it is an error of a store that is away or busy, and not of what was asked of it."""
    from mlflow import MlflowException
    from requests import RequestException

    if isinstance(error, MlflowException):
        # MLflow takes most of these for internal errors; only their text tells them apart.
        text = str(error)
        return bool(_AWAY.search(text)) or (error.error_code == "TEMPORARILY_UNAVAILABLE" and not _FULL.search(text))
    if isinstance(error, RequestException):
        return error.response is None or error.response.status_code in _BUSY
    # Of the clients of S3 and Google's storage too: those of a refusal are not told apart.
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith(("boto", "google."))


def _pin_registry(uri: str) -> None:
    configured = split(os.environ.get(REGISTRY, "")).bare
    with suppress(ValueError):
        configured = checked(configured, REGISTRY)
    if configured and configured != uri and configured not in _PINNED:
        print(
            f"opscore: {REGISTRY}={configured} is not used: champions and claims are kept in the tracking store {uri}, "
            f"where every shell finds them; `unset {REGISTRY}` before you serve one with mlflow",
            file=sys.stderr,
        )
    os.environ[REGISTRY] = uri
    _PINNED.add(uri)


def retry_on_conflict(write: Callable[[], object]) -> None:
    """Do an idempotent write that another process may do at the same moment, and repeat it once upon a conflict.

    MLflow inserts a row if it does not find it, and the database refuses all concurrent inserts but the first. The
    second try finds the row. Raises MlflowException where that fails too.
    """
    import mlflow

    try:
        write()
    except mlflow.MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        write()


def live_run(client: MlflowClient, run_id: str) -> Run | None:
    """A run of the store; None where it has none, or a person deleted it."""
    run = existing(lambda: client.get_run(run_id))
    return None if run is None or run.info.lifecycle_stage == "deleted" else run


def logged_models(client: MlflowClient, run_id: str) -> list[LoggedModel]:
    """The models that a run logged and nobody deleted."""
    outputs = client.get_run(run_id).outputs
    ids = [one.model_id for one in outputs.model_outputs] if outputs else []
    found = [existing(lambda one=one: client.get_logged_model(one)) for one in ids]  # type: ignore[misc]
    return [one for one in found if one is not None]


def existing(get: Callable[[], T]) -> T | None:
    """The result of `get`; None where MLflow has no such run, model or version."""
    import mlflow

    try:
        return get()
    except mlflow.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
