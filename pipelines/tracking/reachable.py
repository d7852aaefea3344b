"""Whether the server of a tracking store answers, and its version. Does not import MLflow."""

from __future__ import annotations

import os
import re
import time
import warnings
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipelines.system.words import one_line
from pipelines.tracking import credentials
from pipelines.tracking.credentials import VARIABLE

if TYPE_CHECKING:
    from requests import PreparedRequest

HTTP = ("http", "https")
RETRY_S = 0.5
CONNECT_TIMEOUT_S = 3.0
# A server that takes connections and is busy need not answer sooner.
ANSWER_TIMEOUT_S = 10.0
# What a proxy says whose server is away.
AWAY = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
# MLflow's own.
CERTIFICATE = "MLFLOW_TRACKING_CLIENT_CERT_PATH"


def check_reachable(uri: str, *, patience_s: float = 0.0) -> None:
    """Raise ConnectionError where a server or its database does not answer. patience_s: how long to try again.

    A tunnel or a proxy that answers for a server that is away counts as none.
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if scheme == "postgresql":
                _log_in(uri)
            elif scheme in HTTP:
                _get(uri, "health")
            return
        except OSError as error:
            if time.monotonic() < deadline:
                time.sleep(RETRY_S)
                continue
            what = "database" if scheme == "postgresql" else "MLflow server"
            from_environment = os.environ.get(VARIABLE, "").strip() == uri
            # MLflow puts there what the command was given as well.
            embedded = f"{f'unset {VARIABLE} and ' if from_environment else ''}leave tracking.uri out"
            raise ConnectionError(
                f"the {what} {uri} does not answer ({error}){_through_proxy(uri)}: start it, or {embedded} "
                "for the embedded store"
            ) from error


def server_version(uri: str) -> str:
    """The version that an MLflow server tells, such as `3.17.0`; empty where it tells none, and for a database."""
    if urlsplit(uri).scheme not in HTTP:
        return ""
    with suppress(OSError):
        found = re.fullmatch(r"\s*(\d+\.\d[\w.]*)\s*", _get(uri, "version"))
        return found[1] if found else ""
    return ""


def _get(uri: str, page: str) -> str:
    """What a server answers, through the proxies that MLflow's client takes; empty where it refuses or needs longer.

    Raises OSError where there is no server, or a proxy or tunnel says so.
    """
    import requests

    def anonymous(request: PreparedRequest) -> PreparedRequest:
        # Nothing is sent that is secret, so the server need not show who it is.
        return request

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = requests.get(
                f"{uri.rstrip('/')}/{page}",
                timeout=(CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S),
                # To log in, perhaps: this server answers.
                allow_redirects=False,
                verify=False,
                cert=os.environ.get(CERTIFICATE) or None,
                auth=anonymous,
            )
    except requests.ReadTimeout:
        return ""
    except requests.RequestException as error:
        raise ConnectionError(_reason(error)) from error
    if answer.status_code in AWAY:
        raise ConnectionError(f"{answer.status_code} {answer.reason}")
    return answer.text if answer.ok else ""


def _reason(error: BaseException) -> str:
    """What went wrong first, without the layers of libraries around it."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error) or type(error).__name__


def _through_proxy(uri: str) -> str:
    """That the environment names a proxy for this server; empty where it names none."""
    parts = urlsplit(uri)
    if parts.scheme not in HTTP:
        return ""
    from requests.utils import get_environ_proxies

    proxies = get_environ_proxies(uri, no_proxy=None)
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return f" through the proxy {credentials.redacted(proxy)}, which NO_PROXY={parts.hostname} avoids" if proxy else ""


def _log_in(uri: str) -> None:
    """Connect to PostgreSQL, for which MLflow would try 100 s. Raises ConnectionError."""
    start, separator, rest = uri.partition("://")
    if start not in ("postgresql", "postgresql+psycopg"):
        return
    import psycopg

    try:
        # libpq's minimum is 2 s.
        psycopg.connect(f"postgresql{separator}{rest}", connect_timeout=round(CONNECT_TIMEOUT_S)).close()
    except psycopg.Error as error:
        reason = one_line(error)
        if "password" in reason:
            reason += f"; its password is taken from {credentials.DATABASE_PASSWORD}"
        raise ConnectionError(reason) from error
