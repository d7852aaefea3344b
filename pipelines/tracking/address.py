"""The address of the tracking store. Does not import MLflow."""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import shlex
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipelines.system.places import CHECKOUT, expanded, is_folder
from pipelines.tracking import credentials
from pipelines.tracking.credentials import URI, VARIABLE

# An installed opscore keeps its store in the current folder, not among Python's packages.
ROOT = CHECKOUT or Path.cwd()
EMBEDDED = ROOT / "mlruns"
# The experiment of cells that name none.
EXPERIMENT = "opscore"
SQLITE = "sqlite:///"
_NETWORKED = ("http", "https", "postgresql")
# What people write for the kind of a store.
_LIKELY = {one: one for one in (*_NETWORKED, "sqlite")} | {"postgres": "postgresql", "psql": "postgresql"}
_HOST = re.compile(r"/{0,2}(localhost|[\w-]+(\.[\w-]+)*:\d+|\d+(\.\d+){3}|\[[\da-fA-F:]+\])(?![\w.])")
_SUPPORTED = "a database (sqlite:///, postgresql://) or an MLflow server (http://, https://)"


def sqlite_uri(path: Path) -> str:
    """The address of a SQLite file, with `%` and `?` escaped as SQLAlchemy expects."""
    return SQLITE + str(path).replace("%", "%25").replace("?", "%3F")


def sqlite_path(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other."""
    return Path(unquote(uri.removeprefix(SQLITE).partition("?")[0])) if uri.startswith(SQLITE) else None


EMBEDDED_URI = sqlite_uri(EMBEDDED / "mlflow.db")


def tracking_uri(configured: str | None) -> str:
    """The configured store, or MLFLOW_TRACKING_URI, or the embedded SQLite file in `mlruns/`.

    A password is moved into the environment, and the path of a SQLite file becomes absolute. Raises ValueError for what
    is no address of a store.
    """
    from_environment = credentials.of_environment(use=not configured)
    given = configured or from_environment
    if not given:
        return EMBEDDED_URI
    return checked(credentials.adopted(given), URI if configured else VARIABLE)


def recorded_uri(uri: str) -> str:
    """The store that a recorded file names. Its password comes from MLFLOW_TRACKING_URI, if that is the same store.

    Raises ValueError for what is no address of a store.
    """
    given = credentials.split(os.environ.get(VARIABLE, "")).bare
    with suppress(ValueError):
        if given and checked(given, VARIABLE) == uri:
            return tracking_uri(None)
    return tracking_uri(uri)


def store_option(uri: str | None) -> str:
    """The option, with a blank before it and without a password, by which a command uses the store that was named.

    uri: None where none was named: then it is empty.
    """
    return f" --tracking-uri {shlex.quote(credentials.split(uri).bare)}" if uri else ""


def place_options(experiment: str, uri: str | None) -> str:
    """The options by which a command finds the cells of an experiment; empty where it looks there by itself."""
    named = "" if experiment == EXPERIMENT else f" --experiment {shlex.quote(experiment)}"
    return named + store_option(uri)


def checked(given: str, field: str) -> str:
    """An address without surrounding quotes and blanks. field: the setting that gave it.

    Raises ValueError for what is no address of a store.
    """
    uri = given.strip().strip("'\"").strip()
    scheme, colon, rest = uri.partition(":")
    scheme, _, driver = scheme.lower().partition("+")
    if colon and rest.startswith("//") and scheme in _NETWORKED:
        uri = f"{uri[: uri.index(':')].lower()}:{rest}"
        return _server(uri, scheme, driver, field)
    if uri.lower().startswith(SQLITE) and not driver:
        return _file(SQLITE + uri[len(SQLITE) :], field)
    raise ValueError(_refusal(uri, field))


def _server(uri: str, scheme: str, driver: str, field: str) -> str:
    start, _, rest = uri.partition("://")
    if scheme != "postgresql":
        base, page, _ = rest.partition("#")
        if page:
            raise ValueError(_wrong(uri, field, "a page of MLflow's UI", f"{start}://{base.rstrip('/')}"))
        if not urlsplit(uri).hostname:
            raise ValueError(_wrong(uri, field, "no host", f"{start}://127.0.0.1:5000"))
    try:
        urlsplit(uri).port  # noqa: B018 (raises for what is no port)
    except ValueError as error:
        raise ValueError(f"the port of {field} must be a number from 0 to 65535, got {uri!r}: correct it") from error
    package = driver or "psycopg"
    if scheme == "postgresql" and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{field} must be of a kind for which a driver is installed, got {uri!r} without the package {package}: "
            f"pip install {shlex.quote('psycopg[binary]' if package == 'psycopg' else package)}"
        )
    return uri


def _file(uri: str, field: str) -> str:
    path = sqlite_path(uri)
    query = uri.partition("?")[1] + uri.partition("?")[2]
    if path is None or path.name in ("", ":memory:") or uri.endswith("/"):
        raise ValueError(_wrong(uri, field, "no file, in which nothing would be kept", EMBEDDED_URI))
    if expanded(path) != path:
        raise ValueError(_wrong(uri, field, "'~', which only a shell expands", sqlite_uri(expanded(path))))
    if is_folder(path):
        raise ValueError(_wrong(uri, field, "a folder", sqlite_uri(path.resolve() / "mlflow.db")))
    # Absolute, as other processes may have other current folders.
    return sqlite_uri(Path(os.path.abspath(path))) + query  # noqa: PTH100 (links stay as they are)


def _refusal(uri: str, field: str) -> str:
    """Why this is no address of a store, with the one that was probably meant."""
    scheme, _, rest = uri.partition(":")
    kind = scheme.lower().partition("+")[0]
    if re.fullmatch(r"databricks(-\w+)?|uc", kind):
        return _wrong(uri, field, "Databricks, on which opscore cannot claim a training", EMBEDDED_URI)
    if kind in ("mysql", "mssql", "oracle"):
        served = f"`mlflow server --backend-store-uri {shlex.quote(uri)}`"
        return _wrong(uri, field, f"which only MLflow's server takes: start {served}", "http://127.0.0.1:5000")
    if kind == "file":
        return _path(unquote(re.sub(r"^(//)?(?=/)", "", rest)), uri, field)
    if _HOST.match(uri):
        return _wrong(uri, field, "a host without http://", f"http://{uri.lstrip('/')}")
    return _mistyped(uri, field)


def _mistyped(uri: str, field: str) -> str:
    address = re.match(r"(\w+)(\+\w+)?(:?//|:)(.*)", uri)
    if address is None or (address[3] == ":" and address[1] not in ("arn", *_LIKELY)):
        return _path(uri, uri, field)
    near = difflib.get_close_matches(address[1].lower(), _LIKELY, n=1, cutoff=0.65)
    if not near:
        return _wrong(uri, field, f"of the kind {address[1]!r}", EMBEDDED_URI)
    meant, place = _LIKELY[near[0]], address[4].lstrip("/")
    if meant != "sqlite":
        return _wrong(uri, field, f"which does not begin with {meant}://", f"{meant}://{place}")
    absolute = address[4].startswith("//") or (address[3] == ":" and address[4].startswith("/"))
    database = f"{SQLITE}{'/' * absolute}{place}" if place else EMBEDDED_URI
    return _wrong(uri, field, "which is none of SQLite's", database)


def _path(name: str, uri: str, field: str) -> str:
    path = expanded(name)
    is_file = path.suffix in (".db", ".sqlite", ".sqlite3")
    what = "a file without sqlite:///" if is_file else "a folder, and MLflow's file store is deprecated"
    database = path if is_file else path / "mlflow.db"
    return _wrong(uri, field, what, sqlite_uri(Path(os.path.abspath(database))))  # noqa: PTH100


def _wrong(uri: str, field: str, what: str, instead: str) -> str:
    if field == VARIABLE:
        mend = f"export {VARIABLE}={shlex.quote(instead)}, or unset {VARIABLE} for the embedded store"
    else:
        mend = f"set {shlex.quote(f'{field}={instead}')}, or leave it out"
    return f"{field} must be {_SUPPORTED}, got {uri!r}, {what}: {mend}"
