"""Checks, before anything is trained, that this machine can write to a store and its artifacts."""

from __future__ import annotations

import os
import pwd
import shlex
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import psutil

from pipelines.system.places import nearest_existing
from pipelines.system.words import one_line
from pipelines.tracking.address import sqlite_path, sqlite_uri
from pipelines.tracking.client import retries
from pipelines.tracking.reachable import check_reachable, server_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

# Always the same name, so that at most one file stays where deleting is forbidden.
PROBE = "opscore-can-write.txt"
LIST = "/api/2.0/mlflow/artifacts/list"
# Logged models are MLflow 3's.
OLDEST_SERVER = 3


def check_writable(experiment: Experiment, uri: str) -> None:
    """Write and delete a small artifact of the experiment. Raises PermissionError where that fails.

    uri: of the store. A server without --serve-artifacts names a folder of its own machine, and MLflow's client writes
    to the folder of that name on this one.
    """
    location = str(experiment.artifact_location)
    parts = urlsplit(location)
    folder = Path(unquote(parts.path)) if parts.scheme in ("", "file") else None
    if folder is not None and not (_is_shared(folder, uri) and _has_the_servers_files(experiment, uri)):
        whose = "the server's machine" if uri.startswith("http") else "the machine that made the experiment"
        raise PermissionError(
            f"{_where(experiment, uri)}, a folder of {whose} that is not on this one: mount it here, or "
            f"start {'the' if uri.startswith('http') else 'a'} server with --serve-artifacts and set "
            "tracking.experiment to a new one"
        )
    try:
        _probe(location, uri)
    except Exception as error:
        reason, mend = one_line(error)[:300], _mend(parts.scheme, folder, uri)
        raise PermissionError(f"{_where(experiment, uri)}, where nothing can be written ({reason}): {mend}") from error


def check_usable(uri: str, *, patience_s: float = 0) -> None:
    """Raise ConnectionError where a store does not answer, PermissionError where a SQLite file could not be written,
    ValueError where a server is too old.

    The file need not exist. patience_s: how long to try again where nothing answers.
    """
    check_reachable(uri, patience_s=patience_s)
    version = server_version(uri)
    if version and int(version.partition(".")[0]) < OLDEST_SERVER:
        raise ValueError(
            f"tracking.uri must be a server of MLflow {OLDEST_SERVER} or newer, as an older one does not take exported "
            f"models, got {uri} with {version}: upgrade it, or leave tracking.uri out for the embedded store"
        )
    database = sqlite_path(uri)
    if database is None:
        return
    if database.is_file():
        check_database(uri, database)
        return
    nearest = nearest_existing(database)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        own = sqlite_uri(free_folder() / database.name)
        raise PermissionError(
            f"tracking.uri must be a store that {_user(os.geteuid())} may write to, got {uri}, and in {nearest} "
            f"nothing can be made: set {shlex.quote(f'tracking.uri={own}')}, or leave it out"
        )


def check_database(uri: str, database: Path) -> None:
    """Raise PermissionError where a SQLite file, or the folder in which SQLite keeps its journal, cannot be written."""
    folder = database.parent
    closed = next((one for one in (database, folder) if not os.access(one, os.W_OK)), None)
    if closed is None:
        return
    own = free_folder()
    copy = f"cp -r {shlex.quote(f'{folder}/.')} {shlex.quote(str(own))} && chmod -R u+w {shlex.quote(str(own))}"
    raise PermissionError(
        f"tracking.uri must be a store that {_user(os.geteuid())} may write to, got {uri}, whose "
        f"{'file' if closed == database else 'folder'} {closed} belongs to {_user(closed.stat().st_uid)} and is "
        f"read-only: copy it with `{copy}` and set {shlex.quote(f'tracking.uri={sqlite_uri(own / database.name)}')}"
    )


def free_folder(name: str = "opscore-store") -> Path:
    """A new folder that this user may make."""
    home = next((one for one in (Path.home(), Path.cwd()) if os.access(one, os.W_OK)), Path(tempfile.gettempdir()))
    names = (f"{name}{number}" for number in ("", *(f"-{number}" for number in range(2, 1000))))
    return next(home / name for name in names if not (home / name).exists())


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _where(experiment: Experiment, uri: str) -> str:
    return f"the experiment {experiment.name!r} of {uri} keeps its artifacts in {experiment.artifact_location}"


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
    with tempfile.TemporaryDirectory(prefix="opscore-") as scratch, retries(1):
        path = Path(scratch, PROBE)
        path.write_text("opscore checks that it can write here, and deletes this file.\n")
        repository.log_artifact(str(path))  # type: ignore[no-untyped-call]
        # Deleting may be forbidden, or another process may have done it.
        with suppress(Exception):
            repository.delete_artifacts(PROBE)  # type: ignore[no-untyped-call]


def _is_shared(folder: Path, uri: str) -> bool:
    """Whether a folder that a store names is on this machine: it exists, or the store is on this machine too."""
    host = urlsplit(uri).hostname
    # MLflow's client makes the folder for a database where the command is run, at the first file.
    is_own = not uri.startswith("http") and folder.is_relative_to(Path.cwd())
    return host is None or is_own or folder.exists() or folder.parent.exists() or _is_here(host)


def _has_the_servers_files(experiment: Experiment, uri: str) -> bool:
    """Whether the files that the server lists of the experiment's newest runs are here too, as far as it tells.

    A tunnel gives a server the address of this machine, and two machines may have folders of one name.
    """
    if not uri.startswith("http"):
        return True
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    for run in client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'", max_results=5):
        folder = Path(unquote(urlsplit(run.info.artifact_uri).path))
        try:
            if folder.is_dir() and any(folder.iterdir()):
                return True
        except PermissionError:  # of another user, and here
            return True
        if _server_has_files(client, run.info.run_id):
            return False
    return True


def _server_has_files(client: MlflowClient, run_id: str) -> bool:
    """Whether the server lists files of a run, which MLflow's client would look for on this machine."""
    from mlflow.utils.rest_utils import http_request

    store = client._tracking_client.store
    with retries(1):
        answer = http_request(  # type: ignore[no-untyped-call]
            store.get_host_creds(), LIST, "GET", raise_on_status=False, params={"run_id": run_id}
        )
    return bool(answer.ok and answer.json().get("files"))


def _is_here(host: str) -> bool:
    own = {one.address for addresses in psutil.net_if_addrs().values() for one in addresses}
    try:
        return bool({str(info[4][0]) for info in socket.getaddrinfo(host, None)} & own)
    except OSError:
        return False
