"""The tables of a tracking store, which one process at a time makes.

MLflow makes missing tables, and two processes that do so at once break each other's migration. So a lock is taken that
ends with its owner: a file next to a SQLite database, an advisory lock in PostgreSQL. An MLflow server makes its own
tables.
"""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.system.errors import StoreError
from pipelines.system.locks import lock
from pipelines.tracking.address import sqlite_path, sqlite_uri
from pipelines.tracking.client import connected, quieten

if TYPE_CHECKING:
    from sqlalchemy import Connection

# The number of PostgreSQL's advisory lock: "opscore" in ASCII.
LOCK = int.from_bytes(b"opscore", "big")
SUFFIXES = ("", "-journal", "-wal", "-shm")


def create(uri: str) -> None:
    """Make the store's tables and first experiment where they are missing.

    Raises StoreError as `check_whole` does, OSError where a SQLite file cannot be made.
    """
    database = sqlite_path(uri)
    if database is not None:
        _create_file(database.resolve())
        check_whole(uri)
    elif _is_postgresql(uri):
        with _advisory_lock(uri):
            connected(uri).search_experiments(max_results=1)


def check_exists(uri: str) -> None:
    """Raise StoreError where the tables are missing, because MLflow would make them even for a reader.

    Waits for a process that is making them in PostgreSQL.
    """
    database = sqlite_path(uri)
    if database is not None:
        there = _is_there(database)
    elif _is_postgresql(uri):
        import sqlalchemy

        with _advisory_lock(uri) as connection:
            there = sqlalchemy.inspect(connection).has_table("experiments")
    else:
        return
    if not there:
        raise StoreError(f"there is no tracking store at {uri}: run a cell first, or set tracking.uri to another")


def check_whole(uri: str) -> None:
    """Raise StoreError for a SQLite file with some of the tables and no run.

    MLflow adds the missing tables, but fails where a process was killed while it made one.
    """
    database = sqlite_path(uri)
    if database is None:
        return
    try:
        connected(uri).search_experiments(max_results=1)
    except Exception as error:
        if not _holds_half(database):
            raise
        aside = shlex.join(["mv", str(database), f"{database}.broken"])
        raise StoreError(
            f"the database {database} must hold all of MLflow's tables, got some of them and no run, as a process was "
            f"killed while it made them: `{aside}`, and the next command makes a new one"
        ) from error


def upgrade(uri: str) -> None:
    """Make the tables of a database, or migrate them to this version of MLflow."""
    from mlflow.db import commands

    with _advisory_lock(uri):
        commands(["upgrade", uri], standalone_mode=False)


def _create_file(database: Path) -> None:
    """Make a SQLite file under a temporary name, so that under its own it is always complete."""
    if _is_there(database):
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with _file_lock(database.with_name(f"{database.name}.lock")):
        if _is_there(database):
            return
        unfinished = database.with_name(f"{database.name}.new")
        # Left by a process that was killed.
        for suffix in SUFFIXES:
            unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        quieten()
        store = SqlAlchemyStore(sqlite_uri(unfinished), (database.parent / "artifacts").as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        unfinished.replace(database)


def _is_there(database: Path) -> bool:
    return database.is_file() and database.stat().st_size > 0


def _holds_half(database: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0] if "runs" in tables else 0
    except sqlite3.Error:
        return False
    return runs == 0 and bool(tables & {"experiments", "runs", "alembic_version"})


def _is_postgresql(uri: str) -> bool:
    return uri.startswith("postgresql")


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        lock(file.fileno())
        yield


@contextmanager
def _advisory_lock(uri: str) -> Iterator[Connection]:
    """Hold the lock with a connection of its own, which ends with the process and keeps no transaction open."""
    import sqlalchemy
    from mlflow.store.db.utils import create_sqlalchemy_engine_with_retry

    engine = create_sqlalchemy_engine_with_retry(uri)  # type: ignore[no-untyped-call]
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({LOCK})"))
            try:
                yield connection
            finally:
                connection.execute(sqlalchemy.text(f"SELECT pg_advisory_unlock({LOCK})"))
    finally:
        engine.dispose()
