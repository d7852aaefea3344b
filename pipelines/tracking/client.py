"""MLflow's client, as every part of opscore wants it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from pipelines.tracking.address import checked
from pipelines.tracking.credentials import split

if TYPE_CHECKING:
    from mlflow import MlflowClient

REGISTRY = "MLFLOW_REGISTRY_URI"
# What this process has pinned itself.
_PINNED: set[str] = set()


def connected(uri: str) -> MlflowClient:
    """A client of the store, which becomes this process's own: it gives up after seconds and does not chatter.

    Claims and champions are registered models of the same store, or two shells would each have their own.
    """
    _pin_registry(uri)
    quieten()
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(uri, registry_uri=uri)


def quieten() -> None:
    """Let MLflow give up after seconds and not chatter."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow's own seven tries take minutes, in which a cell that needs no store at all would stand still.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    # Migrations of a new store and the start of every monitor are no news to anybody.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # The traceback of each error of a database, which is raised and told in one sentence as well.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    # Each try again of each request of each thread, while a server is away: what follows from it is told once.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


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
    """Write what may be written twice, where other processes may write the same row at the same moment.

    MLflow looks whether the row is there before it inserts it, and a database refuses all inserts but the first. The
    second try finds the row. Raises MlflowException where that is refused too.
    """
    import mlflow

    try:
        write()
    except mlflow.MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        write()
