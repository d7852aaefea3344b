"""Whether a server answers, asked of real sockets."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pipelines.tracking.reachable import check_reachable, server_version
from tests.places import called, child_environment


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def server(status: int | None, text: str = "", headers: tuple[tuple[str, str], ...] = ()) -> Iterator[str]:
    """The address of a server that answers every request so; None ends each connection without an answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if status is None:
                return
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as opened:
        thread = threading.Thread(target=opened.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{opened.server_port}"
        finally:
            opened.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [502, 503, 504, None])
def test_a_proxy_whose_server_is_away_is_no_answer(status: int | None) -> None:
    with server(status) as uri, pytest.raises(ConnectionError, match=r"does not answer \(.*\): start it, or leave"):
        check_reachable(uri)


@pytest.mark.parametrize("status", [200, 302, 401, 404, 500])
def test_a_server_that_refuses_answers(status: int) -> None:
    # It leads to a port where nothing is.
    with server(status, headers=(("Location", "http://127.0.0.1:9/"),)) as uri:
        check_reachable(uri)
        check_reachable(f"{uri}/mlflow/")


def test_a_server_is_asked_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(200) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        check_reachable("http://mlflow.example.invalid:5000")
    with server(502) as proxy, server(200) as own:
        monkeypatch.setenv("http_proxy", proxy)
        told = rf"\(502 .*\) through the proxy {proxy}, which NO_PROXY=127\.0\.0\.1 avoids: start it"
        with pytest.raises(ConnectionError, match=told):
            check_reachable(own)
        # As for MLflow's client, a network may be named.
        monkeypatch.setenv("no_proxy", "127.0.0.0/8")
        check_reachable(own)


@pytest.mark.parametrize(("text", "version"), [("3.17.0", "3.17.0"), ("2.22.1\n", "2.22.1"), ("<html>5.1</html>", "")])
def test_a_server_tells_its_version(text: str, version: str) -> None:
    with server(200, text) as uri:
        assert server_version(uri) == version
    assert server_version("sqlite:////tmp/mlflow.db") == ""


def test_an_older_mlflow_is_refused_before_a_training(tmp_path: Path) -> None:
    with server(200, "2.22.1") as uri:
        for command in (["run"], ["sweep", "technique=baseline,quantize_int8"]):
            words = [*command, "dataset=digits", "model=small_cnn", f"tracking.uri={uri}"]
            done = called("pipelines", *words, cwd=tmp_path, variables=child_environment(uri))
            assert done.returncode == 2 and done.stderr.startswith(
                "opscore: tracking.uri must be a server of MLflow 3 or newer, as an older one does not take exported "
                f"models, got {uri} with 2.22.1: upgrade it, or "
            ), done.stderr
            assert done.stderr.count("\n") == 1
