"""Where the tracking store is, and whether it answers. Does not import MLflow."""

import os
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "mlruns"
EMBEDDED_URI = f"sqlite:///{EMBEDDED / 'mlflow.db'}"
RETRY_S = 2.0


def tracking_uri(configured: str | None) -> str:
    """The configured store, else MLFLOW_TRACKING_URI, else the embedded SQLite file under `mlruns/`."""
    return configured or os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED_URI


def check_reachable(uri: str, *, patience_s: float = 0.0, timeout_s: float = 3.0) -> None:
    """Raise ConnectionError where a tracking server does not answer, ValueError for a plain folder.

    patience_s: how long to try again.
    """
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        raise ValueError(
            f"the tracking store must be a database or a server, got the folder {uri!r}: MLflow's file store is "
            f"deprecated; set tracking.uri={EMBEDDED_URI} or leave it null"
        )
    if parts.scheme not in ("http", "https"):
        return
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    deadline = time.monotonic() + patience_s
    while True:
        try:
            socket.create_connection((parts.hostname or "", port), timeout=timeout_s).close()
        except OSError as error:
            if time.monotonic() < deadline:
                time.sleep(RETRY_S)
                continue
            raise ConnectionError(
                f"the MLflow server {uri} does not answer ({error}): start it, or set tracking.uri=null for the "
                "embedded store"
            ) from error
        return
