"""Real servers for tests: `python -m pipelines server`, and MLflow's UI on a store, in processes of their own."""

import base64
import http.server
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]


class Server:
    """A server that was started, and its processes."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        self.folder = folder
        self.uri = f"http://127.0.0.1:{port}"
        self._said = folder / "server.log"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        with self._said.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipelines", "server", "--folder", folder, "--port", str(port), *options],
                cwd=ROOT,
                env=inherited,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        """All that it wrote so far."""
        return self._said.read_text()

    @property
    def mlflow(self) -> psutil.Process:
        """MLflow's main process; its uvicorn and workers are children of it."""
        return self._child("pipelines.tracking.server_main")

    @property
    def postmaster(self) -> psutil.Process:
        """PostgreSQL's main process."""
        return self._child(str(self.folder / "postgres-"))

    @property
    def sockets(self) -> Path:
        """The folder of PostgreSQL's socket: the host to connect to."""
        arguments = self.postmaster.cmdline()
        return Path(arguments[arguments.index("-k") + 1])

    def all_processes(self) -> list[psutil.Process]:
        """The server's own process and every one below it."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def await_ready(self, timeout_s: float = 180) -> None:
        """Wait until it serves. Raises AssertionError where it ends or takes longer."""
        deadline = time.monotonic() + timeout_s
        while f"export MLFLOW_TRACKING_URI={self.uri}\n" not in self.said:
            logs = {log.name: log.read_text()[-2000:] for log in self.folder.glob("*.log")}
            assert self.process.poll() is None, logs
            assert time.monotonic() < deadline, logs
            time.sleep(0.1)

    def stop(self) -> int:
        """End it as `kill` does, and give its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=60)

    def _child(self, part: str) -> psutil.Process:
        (found,) = [one for one in self.all_processes()[0].children() if any(part in word for word in one.cmdline())]
        return found


@contextmanager
def serving(folder: Path, port: int, *options: str) -> Iterator[Server]:
    """A server that answers, with one worker, as that starts fastest; nothing of it is left afterwards."""
    server = Server(folder, port, "--workers", "1", *options)
    processes: list[psutil.Process] = []
    try:
        server.await_ready()
        processes = server.all_processes()
        yield server
    finally:
        server.stop()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()


@contextmanager
def ui(store: str, folder: Path, *options: str) -> Iterator[str]:
    """MLflow's UI on the store with this address, as `make ui` opens it; gives its own address.

    folder: for its log. options: more of `mlflow ui`'s, which are those of `mlflow server`.
    """
    address = f"http://127.0.0.1:{free_port()}"
    said = folder / "ui.log"
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    place = ["--backend-store-uri", store, "--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    with said.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "ui", *place, *options, "--workers", "1"],
            cwd=folder,
            # Without MLflow's runners of jobs, eight processes more.
            env=inherited | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 180
        while not answers(f"{address}/health"):
            assert process.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.2)
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(address: str) -> bool:
    """Whether an address gives status 200."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that the user nobody, as whom root starts PostgreSQL, may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="served-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


@contextmanager
def guarded(behind: str, user: str, password: str) -> Iterator[str]:
    """The server with this address behind HTTP basic authentication; gives the address that asks for it."""
    expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != expected:
                self._answer(401, b"who are you?", [])
                return
            headers = {name: self.headers[name] for name in ("Content-Type",) if name in self.headers}
            request = urllib.request.Request(behind + self.path, body or None, headers, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    self._answer(answer.status, answer.read(), answer.headers.items())
            except urllib.error.HTTPError as error:
                self._answer(error.code, error.read(), error.headers.items())

        def _answer(self, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() in ("content-type", "content-disposition"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{user}:{password}@127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def files_served(folder: Path) -> Iterator[str]:
    """The address of a web server with the files of a folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
