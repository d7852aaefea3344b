"""Passwords of tracking stores, which are moved from addresses into the environment.

Addresses are printed, recorded and written into files; the environment is only inherited. MLflow and libpq read the
variables that are set here. Does not import MLflow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from pipelines.system.guard import MisuseError

URI, VARIABLE = "tracking.uri", "MLFLOW_TRACKING_URI"
HTTP_USER, HTTP_PASSWORD, DATABASE_PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "PGPASSWORD"
_HTTP = ("http://", "https://")
_USER = r"([\w+.-]+:/*)([^:/?#@]*):"
# A password as a browser reads it, and as SQLAlchemy does, for which slashes need no escape.
_IN_SERVER = re.compile(_USER + r"([^/?#]*)@")
_IN_DATABASE = re.compile(_USER + r"([^@]*)@")
_IN_QUERY = re.compile(r"(?<=[?&])password=([^&]*)&?")
_USER_ALONE = re.compile(r"([\w+.-]+://)([^/?#@]*)@")
_ANYWHERE = re.compile(r"([\w+.-]+://[^\s:/?#@'\"]*):[^\s@'\"]*@")
_ADDRESS = re.compile(r"[\w+.-]+:/.*@[^'\"]*", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Address:
    """A store's address without its password. user, password: decoded, None where the address has none."""

    bare: str
    user: str | None = None
    password: str | None = None


def split(uri: str) -> Address:
    """Take the password out of an address, and the user too if it is an MLflow server's."""
    if uri.lower().startswith("sqlite"):
        return Address(bare=uri)
    is_server = uri.lower().startswith(_HTTP)
    found = _IN_SERVER.match(uri) or (None if is_server else _IN_DATABASE.match(uri))
    if found is not None:
        scheme, user, password = found.groups()
        rest = uri[found.end() :]
        bare = scheme + (f"{user}@" if user and not is_server else "") + rest
        return Address(bare=bare, user=unquote(user), password=unquote(password))
    if is_server and (match := _USER_ALONE.match(uri)):
        return Address(bare=match[1] + uri[match.end() :], user=unquote(match[2]))
    if not is_server and (match := _IN_QUERY.search(uri)):
        return Address(bare=_IN_QUERY.sub("", uri).rstrip("?&"), password=unquote(match[1]))
    return Address(bare=uri)


def adopted(uri: str) -> str:
    """The address without its password, which is moved into the environment of this process and its children."""
    address = split(uri)
    if address.bare.lower().startswith(_HTTP):
        if address.user is not None:
            os.environ[HTTP_USER] = address.user
        if address.password is not None:
            os.environ[HTTP_PASSWORD] = address.password
    elif address.password is not None:
        os.environ[DATABASE_PASSWORD] = address.password
    return address.bare


def of_environment(*, use: bool) -> str | None:
    """Take the password out of MLFLOW_TRACKING_URI; gives the rest. use: whether this process talks to that store."""
    given = os.environ.get(VARIABLE)
    if not given:
        return None
    os.environ[VARIABLE] = adopted(given) if use else split(given).bare
    return os.environ[VARIABLE]


def concealed(arguments: Sequence[str]) -> list[str]:
    """Command line arguments without passwords; that of `tracking.uri` is moved into the environment.

    Raises MisuseError for one in the address of a file, which is recorded.
    """

    def conceal(argument: str) -> str:
        name = argument.partition("=")[0].lstrip("+")
        if name.endswith("url"):
            try:
                check_download(name, argument.partition("=")[2].strip("'\""))
            except ValueError as error:
                raise MisuseError(str(error)) from error
        return _ADDRESS.sub(lambda one: adopted(one[0]) if name == URI else split(one[0]).bare, argument)

    return [conceal(argument) for argument in arguments]


def check_download(name: str, url: str) -> None:
    """Raise ValueError for a user or a password in the address of a file, which is recorded. name: of its field."""
    if split(url).user is not None:
        raise ValueError(
            f"{name} must hold no user and no password, as it is recorded, got {redacted(url)}: download the file with "
            "another program, and set data_dir to its folder"
        )


def redacted(text: str) -> str:
    """A text with `***` in place of every address's password."""
    return _ANYWHERE.sub(r"\1:***@", text)
