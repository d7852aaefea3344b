"""Whether the server of a tracking store answers, and its version. Does not import MLflow."""

from __future__ import annotations

import http.client
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import urlsplit

from pipelines.tracking import credentials
from pipelines.tracking.credentials import VARIABLE

HTTP = ("http", "https")
RETRY_S = 0.5
# What a proxy says whose server is away.
AWAY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)


def check_reachable(uri: str, *, patience_s: float = 0.0, timeout_s: float = 3.0) -> None:
    """Raise ConnectionError where a server or its database does not answer. patience_s: how long to try again.

    A tunnel or a proxy that answers for a server that is away counts as none.
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if scheme == "postgresql":
                _log_in(uri, timeout_s)
            elif scheme in HTTP:
                _get(uri, "health", timeout_s)
            return
        except OSError as error:
            if time.monotonic() < deadline:
                time.sleep(RETRY_S)
                continue
            what = "database" if scheme == "postgresql" else "MLflow server"
            from_environment = os.environ.get(VARIABLE, "").strip() == uri
            embedded = f"unset {VARIABLE}" if from_environment else "leave tracking.uri out"
            raise ConnectionError(
                f"the {what} {uri} does not answer ({error}): start it, or {embedded} for the embedded store"
            ) from error


def server_version(uri: str, timeout_s: float = 3.0) -> str:
    """The version that an MLflow server tells, such as `3.17.0`; empty where it tells none, and for a database."""
    if urlsplit(uri).scheme not in HTTP:
        return ""
    with suppress(OSError):
        found = re.fullmatch(r"\s*(\d+\.\d[\w.]*)\s*", _get(uri, "version", timeout_s))
        return found[1] if found else ""
    return ""


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        """Take a page to log in, elsewhere, for an answer of this server."""


def _get(uri: str, page: str, timeout_s: float) -> str:
    """What a server answers, through the proxies of the environment, as MLflow's client asks; empty for a refusal.

    Raises OSError where there is no server, or a proxy or tunnel says so.
    """
    opener = urllib.request.build_opener(_Stay)
    try:
        with opener.open(f"{uri.rstrip('/')}/{page}", timeout=timeout_s) as answer:
            return str(answer.read(1000).decode(errors="replace"))
    except urllib.error.HTTPError as error:
        if error.code in AWAY:
            raise
        return ""
    except urllib.error.URLError as error:
        # MLflow may be configured to trust it.
        if isinstance(error.reason, ssl.SSLError):
            return ""
        raise error.reason if isinstance(error.reason, OSError) else error from error
    except http.client.HTTPException as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    except TimeoutError:
        # It takes connections: it has much to do.
        return ""


def _log_in(uri: str, timeout_s: float) -> None:
    """Connect to PostgreSQL, for which MLflow would try 100 s. Raises ConnectionError."""
    start, separator, rest = uri.partition("://")
    if start not in ("postgresql", "postgresql+psycopg"):
        return
    import psycopg

    try:
        # libpq's minimum is 2 s.
        psycopg.connect(f"postgresql{separator}{rest}", connect_timeout=max(2, round(timeout_s))).close()
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        if "password" in reason:
            reason += f"; its password is taken from {credentials.DATABASE_PASSWORD}"
        raise ConnectionError(reason) from error
