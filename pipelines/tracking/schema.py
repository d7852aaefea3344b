"""The tables of a tracking store, made by one process at a time and found whole by all others.

MLflow makes them where they are missing, and two processes that do so at once break each other's migration. Each
kind of store has a lock of its own that ends with its owner: a file beside a SQLite database, an advisory lock in
PostgreSQL. An MLflow server makes its own tables.
"""

from __future__ import annotations

import fcntl
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.system.errors import StoreError
from pipelines.tracking.address import sqlite_path, sqlite_uri
from pipelines.tracking.client import connected, quieten

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Of PostgreSQL's advisory locks: "opscore" in ASCII.
LOCK = int.from_bytes(b"opscore", "big")
SUFFIXES = ("", "-journal", "-wal", "-shm")


def create(uri: str) -> None:
    """Make the store's tables and its first experiment where they are missing.

    Raises StoreError for a SQLite file with half of the tables and no run, OSError where the file cannot be made.
    """
    database = sqlite_path(uri)
    if database is not None:
        _create_file(database.resolve())
        check_whole(uri)
    elif _is_postgresql(uri):
        with _advisory_lock(uri):
            connected(uri).search_experiments(max_results=1)


def check_exists(uri: str) -> None:
    """Raise StoreError where nobody has made the tables, for those who only read: MLflow would make them.

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
    """Raise StoreError for a SQLite file with a part of the tables and no run.

    MLflow goes on with the tables of a file, which fails where a process was killed in the middle of one.
    """
    database = sqlite_path(uri)
    if database is None:
        return
    try:
        connected(uri).search_experiments(max_results=1)
    except Exception as error:
        if not _holds_half(database):
            raise
        aside = f"mv {shlex.quote(str(database))} {shlex.quote(f'{database}.broken')}"
        raise StoreError(
            f"the database {database} must hold all of MLflow's tables, and holds a part of them and no run, as a "
            f"process was killed while it made them: `{aside}`, and the next command makes it anew"
        ) from error


def upgrade(uri: str) -> None:
    """Make the tables of a database, or bring them to this MLflow's version."""
    from mlflow.db import commands

    with _advisory_lock(uri):
        commands(["upgrade", uri], standalone_mode=False)


def _create_file(database: Path) -> None:
    """A SQLite file is made under another name, so that it is whole as soon as it is there."""
    if _is_there(database):
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with _file_lock(database.with_name(f"{database.name}.lock")):
        if _is_there(database):
            return
        unfinished = database.with_name(f"{database.name}.new")
        # Of a process that was killed.
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
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _advisory_lock(uri: str) -> Iterator[Connection]:
    """Held by a connection of its own: it ends with the process, and no transaction stays open meanwhile."""
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
