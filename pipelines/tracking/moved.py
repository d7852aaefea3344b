"""Repairs a SQLite store that was moved or copied, before anything is trained.

MLflow keeps absolute paths of artifacts in the database and has no command to change them. With a moved store, opscore
would train its cells again and write their artifacts to the old place. Works without MLflow, in milliseconds.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.system.errors import StoreError
from pipelines.tracking.address import recorded_uri, sqlite_path, tracking_uri
from pipelines.tracking.artifacts import check_database
from pipelines.tracking.credentials import VARIABLE
from pipelines.tracking.tags import FINGERPRINT, FOLDER

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
# How long another process may lock the database.
LOCKED_S = 30.0


def prepare(uri: str, experiment: str, *, of_run: str | None = None) -> None:
    """Repair a store before an experiment is written to.

    of_run: a run whose experiment replaces the named one. Raises StoreError where the database cannot be written, or
    where the artifacts of the experiment's finished cells are gone.
    """
    database = _file(uri)
    if database is None:
        return
    _check_database(uri, database)
    repair(uri)
    try:
        with closing(_connection(database)) as connection:
            _check_artifacts(connection, uri, database.parent, experiment, of_run)
    except sqlite3.Error:
        return  # MLflow reports the error


def repair(uri: str) -> None:
    """Change the paths in the database of a moved or copied store to the artifacts next to it, and report it in a line.

    Artifacts are found by the ends of their paths, in folders that hold files of the store's own runs. Raises
    StoreError where the database must be changed and cannot be.
    """
    database = _file(uri)
    if database is None:
        return
    try:
        with closing(_connection(database)) as connection:
            moves = _moves(connection, database.parent)
            if not moves:
                return
            _check_database(uri, database)
            connection.execute("BEGIN IMMEDIATE")
            # Another process may have changed the paths by now.
            moves = _moves(connection, database.parent)
            if not moves:
                connection.execute("ROLLBACK")
                return
            _rewrite(connection, moves)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise StoreError(
                f"the store {uri} was moved and its database is in use ({error}): end the other program, and repeat "
                "the command"
            ) from error
        return  # MLflow reports the error
    old, new = next(iter(moves.items()))
    what = "was moved" if _gone(old) else "is a copy"
    more = f", and so for {len(moves) - 1} other folders" if len(moves) > 1 else ""
    print(f"opscore: the store {uri} {what}: its artifacts are now in {new}, not in {old}{more}", file=sys.stderr)


def address_of(uri: str, run_id: str) -> str:
    """The present address of the store that a recorded file names and that held the run.

    One that is gone may have become the store that this process uses by default. Raises ValueError if it has not.
    """
    uri = recorded_uri(uri)
    path = sqlite_path(uri)
    if path is None or path.is_file():
        return uri
    here = tracking_uri(None)
    database = _file(here)
    if database is not None and _holds_run(database, run_id):
        return here
    raise ValueError(
        f"the store must be where the cell was recorded, got {uri}, which does not exist: if it was moved, give its "
        f"new place with `export {VARIABLE}=sqlite:////new/place/mlflow.db`; if it is lost, make one by running a cell "
        f"with {shlex.quote(f'tracking.uri={uri}')}"
    )


def _file(uri: str) -> Path | None:
    """The existing file of a SQLite store, without links; None for any other store."""
    path = sqlite_path(uri)
    return path.resolve() if path is not None and os.path.isfile(path) else None  # noqa: PTH113 (never raises)


def _check_database(uri: str, database: Path) -> None:
    try:
        check_database(uri, database)
    except PermissionError as error:
        raise StoreError(str(error)) from error


def _connection(database: Path) -> sqlite3.Connection:
    """A connection that creates no file and begins no transaction by itself."""
    mode = "rw" if os.access(database, os.W_OK) else "ro"
    return sqlite3.connect(f"{database.as_uri()}?mode={mode}", uri=True, timeout=LOCKED_S, isolation_level=None)


def _local(value: str | None) -> Path | None:
    """The folder that MLflow reads from a text; None for one that is not on this machine's disks."""
    text = value or ""
    if text.startswith("file:"):
        parts = urlsplit(text)
        text = parts.path if parts.netloc in ("", "localhost") else ""
    # MLflow decodes a plain path too.
    return Path("/" + unquote(text).lstrip("/")) if text.startswith("/") else None


def _gone(folder: Path) -> bool:
    """Whether the folder does not exist. One that this user may not enter exists."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _moves(connection: sqlite3.Connection, home: Path) -> dict[Path, Path]:
    """The present folders of artifacts, by those in the database. home: the database's folder."""
    moves: dict[Path, Path] = {}
    empty: list[Path] = []
    for (value,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall():
        folder = _local(value)
        if folder is None or (folder.is_relative_to(home) and not _gone(folder)):
            continue
        candidates = [one for one in _candidates(folder, home) if not _same(one, folder)]
        if not candidates and not _gone(folder):
            continue
        files = _files(connection, value, folder)
        if not files:
            empty.append(folder)
        elif found := [one for one in candidates if _holds(one, folder, files)]:
            moves[folder] = found[0]
    return moves | dict(_along(empty, moves))


def _files(connection: sqlite3.Connection, value: str, folder: Path) -> list[Path]:
    """The folders of runs and models in an experiment's folder, relative to it. value: the folder in the database."""
    uris = connection.execute(
        "SELECT artifact_uri FROM runs JOIN experiments USING (experiment_id) WHERE artifact_location = ? UNION ALL "
        "SELECT one.artifact_location FROM logged_models one JOIN experiments other USING (experiment_id) "
        "WHERE other.artifact_location = ?",
        (value, value),
    )
    paths = (_local(uri) for (uri,) in uris)
    return [path.relative_to(folder) for path in paths if path is not None and path.is_relative_to(folder)]


def _candidates(folder: Path, home: Path) -> list[Path]:
    """The folders near the database whose paths end as the given one does, the best first."""
    # A copy has its artifacts with it. A moved store may have had its database in a folder of its own.
    homes = (home, home.parent) if _gone(folder) else (home,)
    ends = [Path(*folder.parts[at:]) for at in range(len(folder.parts) - 1, 0, -1)]
    return [one / end for one in homes for end in ends if os.path.isdir(one / end)]  # noqa: PTH112 (never raises)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _holds(candidate: Path, folder: Path, files: Sequence[Path]) -> bool:
    """Whether a candidate has files of the store's runs, and all of them that `folder` has."""
    held = [one for one in files if (candidate / one).is_dir()]
    return bool(held) and all(one in held for one in files if (folder / one).is_dir())


def _along(folders: Sequence[Path], moves: Mapping[Path, Path]) -> Iterator[tuple[Path, Path]]:
    """Empty folders move with the folders next to them."""
    for folder in folders:
        for old, new in moves.items():
            root, there = _roots(old, new)
            if folder.is_relative_to(root):
                yield folder, there / folder.relative_to(root)
                break


def _roots(old: Path, new: Path) -> tuple[Path, Path]:
    """The highest folders above the two that may be one moved folder: below them, all names are the same."""
    while old.name == new.name and old.name:
        old, new = old.parent, new.parent
    return old, new


def _rewrite(connection: sqlite3.Connection, moves: Mapping[Path, Path]) -> None:
    deepest_first = sorted(moves, key=lambda one: len(one.parts), reverse=True)

    def moved(value: str | None) -> str | None:
        path = _local(value)
        old = next((one for one in deepest_first if path is not None and path.is_relative_to(one)), None)
        return value if path is None or old is None else (moves[old] / path.relative_to(old)).as_uri()

    def followed(value: str | None) -> str | None:
        """The folder of a cell's files, which may have been moved with the store."""
        path = _local(value)
        if path is None or not _gone(path):
            return value
        roots = [_roots(old, new) for old, new in moves.items()]
        places = [there / path.relative_to(root) for root, there in roots if path.is_relative_to(root)]
        return next((str(one) for one in places if one.is_dir()), value)

    connection.create_function("moved", 1, moved)
    connection.create_function("followed", 1, followed)
    for table, column in COLUMNS:
        connection.execute(f"UPDATE {table} SET {column} = moved({column}) WHERE {column} IS NOT moved({column})")
    connection.execute("UPDATE tags SET value = followed(value) WHERE key = ?", (FOLDER,))


def _check_artifacts(connection: sqlite3.Connection, uri: str, home: Path, experiment: str, of_run: str | None) -> None:
    """Raise StoreError where an experiment has finished cells, and its folder outside the store's own is gone."""
    found = connection.execute(
        "SELECT experiment_id, name, artifact_location FROM experiments WHERE "
        + ("experiment_id = (SELECT experiment_id FROM runs WHERE run_uuid = ?)" if of_run else "name = ?"),
        (of_run or experiment,),
    ).fetchone()
    folder = _local(found[2]) if found else None
    if folder is None or not _gone(folder) or folder.is_relative_to(home):
        return
    (cells,) = connection.execute(
        "SELECT count(*) FROM runs JOIN tags USING (run_uuid) WHERE experiment_id = ? AND status = 'FINISHED' "
        "AND lifecycle_stage = 'active' AND key = ?",
        (found[0], FINGERPRINT),
    ).fetchone()
    if cells:
        raise StoreError(
            f"the artifacts of the experiment {found[1]!r} of {uri} must exist, got {cells} finished cells and no "
            f"folder {folder}: move or mount it there again, or move it to {home / folder.name}, where it is found; or "
            "begin anew with tracking.experiment=anew"
        )


def _holds_run(database: Path, run_id: str) -> bool:
    try:
        with closing(_connection(database)) as connection:
            return connection.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (run_id,)).fetchone() is not None
    except sqlite3.Error:
        return False
