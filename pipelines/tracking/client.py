"""MLflow's client, as every part of opscore wants it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient


def connected(uri: str) -> MlflowClient:
    """A client of the store, which becomes this process's own: it gives up after seconds and does not chatter."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # MLflow's own seven tries take minutes, in which a cell that needs no store at all would stand still.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    import mlflow

    # Migrations of a new store and the start of every monitor are no news to anybody.
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Each try again of each request of each thread, while a server is away: what follows from it is told once.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(uri)


def beside_rivals(write: Callable[[], object]) -> None:
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
