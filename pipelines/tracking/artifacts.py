"""Whether an experiment's artifacts can be written from this machine, known before anything is trained."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import psutil

from pipelines.tracking.address import sqlite_path

if TYPE_CHECKING:
    from mlflow.entities import Experiment

# Always the same name: where deleting is forbidden, one small file stays.
PROBE = "opscore-can-write.txt"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


def check_writable(experiment: Experiment, uri: str) -> None:
    """Write a small artifact beside the experiment's runs and delete it. Raises PermissionError where that fails.

    uri: of the store. A server without --serve-artifacts names a folder of its own machine, to which MLflow's client
    writes on this one.
    """
    location = str(experiment.artifact_location)
    parts = urlsplit(location)
    folder = Path(unquote(parts.path)) if parts.scheme in ("", "file") else None
    if folder is not None and not _is_shared(folder, uri):
        raise PermissionError(
            f"{_where(experiment, uri)}, a folder of the server's machine that is not on this one: mount it here, or "
            f"start the server with --serve-artifacts and set tracking.experiment to a new one"
        )
    try:
        _probe(location, uri)
    except Exception as error:
        mend = _mend(parts.scheme, folder, uri)
        raise PermissionError(
            f"{_where(experiment, uri)}, where nothing can be written ({_reason(error)}): {mend}"
        ) from error


def _where(experiment: Experiment, uri: str) -> str:
    return f"the experiment {experiment.name!r} of {uri} keeps its artifacts in {experiment.artifact_location}"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _mend(scheme: str, folder: Path | None, uri: str) -> str:
    if scheme == "mlflow-artifacts":
        return "start the server with an --artifacts-destination that it may write to"
    if folder is not None and sqlite_path(uri) is None:
        return (
            "make it a folder that you may write to, or start the server with --serve-artifacts and set "
            "tracking.experiment to a new one"
        )
    if folder is not None:
        return "make it a folder that you may write to, or set tracking.uri to a store of your own"
    return f"install what MLflow needs for {scheme}://, and give it the right to write there"


def _probe(location: str, uri: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository = get_artifact_repository(location, tracking_uri=uri)
    with tempfile.TemporaryDirectory(prefix="opscore-") as scratch, _few_retries():
        path = Path(scratch, PROBE)
        path.write_text("opscore tries whether this can be written, and deletes it.\n")
        repository.log_artifact(str(path))  # type: ignore[no-untyped-call]
        # What may be written need not be deletable; another process may have been faster.
        with suppress(Exception):
            repository.delete_artifacts(PROBE)  # type: ignore[no-untyped-call]


@contextmanager
def _few_retries() -> Iterator[None]:
    """A server that refuses is asked again and again by default."""
    before = os.environ.get(RETRIES)
    os.environ[RETRIES] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[RETRIES]
        else:
            os.environ[RETRIES] = before


def _is_shared(folder: Path, uri: str) -> bool:
    """Whether a folder that a store names is on this machine: it is there, or the store is on this machine too."""
    host = urlsplit(uri).hostname if uri.startswith("http") else None
    return host is None or folder.exists() or folder.parent.exists() or _is_here(host)


def _is_here(host: str) -> bool:
    own = {one.address for addresses in psutil.net_if_addrs().values() for one in addresses}
    try:
        return bool({str(info[4][0]) for info in socket.getaddrinfo(host, None)} & own)
    except OSError:
        return False
