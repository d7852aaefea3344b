"""A SQLite store that was moved or copied, or that belongs to somebody else, known before anything is trained.

MLflow keeps where artifacts are as absolute paths in the database, and has no command to change them. A moved store
would have its cells trained again, and their artifacts written to the old place. Works without MLflow, in milliseconds.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.system.errors import StoreError
from pipelines.tracking.address import recorded_uri, sqlite_path, tracking_uri
from pipelines.tracking.artifacts import check_database
from pipelines.tracking.cell_run import FOLDER
from pipelines.tracking.credentials import VARIABLE

COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
# How long another process may hold the database.
LOCKED_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Location:
    """A local folder of artifacts that experiments name. files: of their runs and models, relative to it."""

    folder: Path
    files: tuple[Path, ...]


def settle(uri: str, experiment: str, *, beside: str | None = None) -> None:
    """Make a store's artifacts be where the database is, before an experiment is written to.

    beside: a run whose experiment takes the place of the named one. Raises StoreError where the database cannot be
    written, or where the artifacts of the experiment's finished cells are gone.
    """
    database = _file(uri)
    if database is None:
        return
    _check_database(uri, database)
    follow(uri)
    try:
        with closing(_connection(database)) as connection:
            _check_there(connection, uri, database.parent, experiment, beside)
    except sqlite3.Error:
        return  # MLflow says what is wrong with it


def follow(uri: str) -> None:
    """Let the database of a store that was moved or copied name the artifacts that lie with it; says so in a line.

    Artifacts are only looked for by the ends of their paths, and only taken where files of the store's own runs are.
    Raises StoreError where the database would have to be changed and cannot be.
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
            # Another process may have been faster.
            moves = _moves(connection, database.parent)
            _rewrite(connection, moves)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        if "locked" in str(error):
            raise StoreError(
                f"the store {uri} was moved and its database is in use ({error}): end the other program, and repeat "
                "the command"
            ) from error
        return  # MLflow says what is wrong with it
    for old, new in list(moves.items())[:1]:
        what = "was moved" if _gone(old) else "is a copy"
        more = f"; {len(moves) - 1} other folders of it likewise" if len(moves) > 1 else ""
        print(
            f"opscore: the store {uri} {what}: its artifacts are now those in {new}, not in {old}{more}",
            file=sys.stderr,
        )


def address_of(uri: str, run_id: str) -> str:
    """Where the store is now that a file names, and that held the run. Raises ValueError where it is not to be found.

    A store that is gone is looked for where this process keeps its own.
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
        f"the store must be where the cell was recorded, got {uri}, where there is none: if it was moved, name its new "
        f"place with `export {VARIABLE}=sqlite:////new/place/mlflow.db`; if it is lost, make one by running a cell "
        f"with {shlex.quote(f'tracking.uri={uri}')}"
    )


def _file(uri: str) -> Path | None:
    """The file of a SQLite store that is there, without links; None for any other."""
    path = sqlite_path(uri)
    return path.resolve() if path is not None and os.path.isfile(path) else None  # noqa: PTH113 (never raises)


def _check_database(uri: str, database: Path) -> None:
    try:
        check_database(uri, database)
    except PermissionError as error:
        raise StoreError(str(error)) from error


def _connection(database: Path) -> sqlite3.Connection:
    """A connection that makes no file, and begins no transaction by itself."""
    mode = "rw" if os.access(database, os.W_OK) else "ro"
    return sqlite3.connect(f"{database.as_uri()}?mode={mode}", uri=True, timeout=LOCKED_S, isolation_level=None)


def _local(value: str | None) -> Path | None:
    """The folder that MLflow reads such a text as; None for one that is on no disk of this machine."""
    text = value or ""
    if text.startswith("file:"):
        parts = urlsplit(text)
        text = parts.path if parts.netloc in ("", "localhost") else ""
    # MLflow takes a plain path for an escaped one too.
    return Path("/" + unquote(text).lstrip("/")) if text.startswith("/") else None


def _gone(folder: Path) -> bool:
    """Whether there is no such folder; one that may not be looked into is there."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _locations(connection: sqlite3.Connection) -> Iterator[str]:
    for (value,) in connection.execute("SELECT DISTINCT artifact_location FROM experiments"):
        if _local(value) is not None:
            yield value


def _location(connection: sqlite3.Connection, value: str) -> Location:
    folder = _local(value)
    assert folder is not None
    of_runs = connection.execute(
        "SELECT artifact_uri FROM runs JOIN experiments USING (experiment_id) WHERE artifact_location = ? UNION ALL "
        "SELECT one.artifact_location FROM logged_models one JOIN experiments other USING (experiment_id) "
        "WHERE other.artifact_location = ?",
        (value, value),
    )
    found = (_local(uri) for (uri,) in of_runs)
    return Location(
        folder=folder,
        files=tuple(path.relative_to(folder) for path in found if path is not None and path.is_relative_to(folder)),
    )


def _moves(connection: sqlite3.Connection, home: Path) -> dict[Path, Path]:
    """Where folders of artifacts are now, by where the database says. home: the database's folder."""
    moves: dict[Path, Path] = {}
    empty: list[Path] = []
    for value in _locations(connection):
        folder = _local(value)
        assert folder is not None
        if folder.is_relative_to(home) and not _gone(folder):
            continue
        candidates = [one for one in _candidates(folder, home) if not _same(one, folder)]
        location = _location(connection, value) if candidates or _gone(folder) else None
        if location is not None and not location.files:
            empty.append(folder)
        elif location is not None:
            there = next((one for one in candidates if _holds(one, location)), None)
            moves |= {} if there is None else {folder: there}
    return moves | dict(_along(empty, moves))


def _candidates(folder: Path, home: Path) -> list[Path]:
    """The folders near the database that end as the given one does."""
    # A copy has its artifacts with it. What was moved may have had its database in a folder of its own.
    homes = (home, home.parent) if _gone(folder) else (home,)
    ends = [Path(*folder.parts[at:]) for at in range(len(folder.parts) - 1, 0, -1)]
    return [one / end for one in homes for end in ends if os.path.isdir(one / end)]  # noqa: PTH112 (never raises)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _holds(candidate: Path, location: Location) -> bool:
    """Whether a folder has files of the store's runs, and all that the place has which the database names."""
    if _gone(location.folder):
        return any((candidate / one).is_dir() for one in location.files)
    known = [one for one in location.files if (location.folder / one).is_dir()]
    return any((candidate / one).is_dir() for one in location.files) and all(
        (candidate / one).is_dir() for one in known
    )


def _along(folders: list[Path], moves: Mapping[Path, Path]) -> Iterator[tuple[Path, Path]]:
    """Folders in which nothing is yet go where what lay beside them went."""
    for folder in folders:
        for old, new in moves.items():
            root, there = _roots(old, new)
            if folder.is_relative_to(root):
                yield folder, there / folder.relative_to(root)
                break


def _roots(old: Path, new: Path) -> tuple[Path, Path]:
    """The highest folders that may be one folder, moved: what lies below them has the same names."""
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
        """Where the files of a cell are that may have been moved with the store."""
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


def _check_there(connection: sqlite3.Connection, uri: str, home: Path, experiment: str, beside: str | None) -> None:
    """Raise StoreError where an experiment has finished cells, and its place outside the store's folder is gone."""
    found = connection.execute(
        "SELECT experiment_id, name, artifact_location FROM experiments WHERE "
        + ("experiment_id = (SELECT experiment_id FROM runs WHERE run_uuid = ?)" if beside else "name = ?"),
        (beside or experiment,),
    ).fetchone()
    folder = _local(found[2]) if found else None
    if folder is None or not _gone(folder) or folder.is_relative_to(home):
        return
    (cells,) = connection.execute(
        "SELECT count(*) FROM runs JOIN tags USING (run_uuid) WHERE experiment_id = ? AND status = 'FINISHED' "
        "AND lifecycle_stage = 'active' AND key = 'fingerprint'",
        (found[0],),
    ).fetchone()
    if cells:
        raise StoreError(
            f"the artifacts of the experiment {found[1]!r} of {uri} must be there, got {cells} finished cells of "
            f"{folder}, which is gone: move or mount it there again, or move it to {home / folder.name}, where it is "
            "found; or begin anew with tracking.experiment=anew"
        )


def _holds_run(database: Path, run_id: str) -> bool:
    try:
        with closing(_connection(database)) as connection:
            return connection.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (run_id,)).fetchone() is not None
    except sqlite3.Error:
        return False
