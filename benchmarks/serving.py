"""A model over HTTP, against calling its `predict` in as many threads.

    python -m benchmarks.serving [--model models:/opscore-cifar10@champion] [--seconds 5] [--workers 1]

MLFLOW_TRACKING_URI says where the model is; without `--model`, small_cnn on digits is made in a temporary store.
`mlflow models serve` runs on this machine, like the clients. Each client sends its next request after the answer;
what it sends is encoded before the clock starts, and of the answer it reads the bytes. Both ways take turns. The share
of HTTP and JSON is what a request takes beyond what `predict` takes, of the request, at the median.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from socket import socket

import numpy as np

from pipelines.litert.latency import Percentiles

ROOT = Path(__file__).resolve().parents[1]
HOST = "127.0.0.1"
CLIENTS = (1, 4, 8)
BATCHES = (1, 32)
TURNS = 2
Ask = Callable[[], object]


class Load:
    """Clients that ask, each again when its answer is there."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._latencies_ns: list[int] = []

    def add(self, clients: list[Ask], seconds: float) -> None:
        """Let them ask for so long, each in a thread of its own, after one call each that is not timed."""
        for ask in clients:
            ask()
        start = threading.Barrier(len(clients))

        def ask_on(ask: Ask) -> tuple[int, int]:
            start.wait()
            began = now = time.perf_counter_ns()
            while now - began < seconds * 1e9:
                ask()
                before, now = now, time.perf_counter_ns()
                self._latencies_ns.append(now - before)
            return began, now

        with ThreadPoolExecutor(len(clients)) as threads:
            began, ended = zip(*threads.map(ask_on, clients), strict=True)
        self._seconds += (max(ended) - min(began)) / 1e9

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self._latencies_ns) / self._seconds

    @property
    def latency(self) -> Percentiles:
        """Of all answers."""
        return Percentiles.of(np.array(self._latencies_ns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="its URI; default: small_cnn on digits, quantize_int8, made here")
    parser.add_argument("--seconds", type=float, default=5, help="for each way, batch size and number of clients")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if arguments.model is None:
            os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{name}/mlflow.db"
            arguments.model = _small_model(Path(name))
        with serving(arguments.model, Path(sys.executable).parent, "--workers", str(arguments.workers)) as port:
            _compare(arguments.model, port, arguments.seconds)


@contextmanager
def serving(model: str, programs: Path, *options: str, timeout_s: float = 90) -> Iterator[int]:
    """The port of a real `mlflow models serve` that answers, in the environment whose `bin` is given.

    Raises RuntimeError with what the server wrote where it ends or does not answer in time.
    """
    with socket() as tried:
        tried.bind((HOST, 0))
        port = int(tried.getsockname()[1])
    # MLflow starts the `uvicorn` that comes first on PATH, whichever environment its own program is of.
    environment = os.environ | {"PATH": os.pathsep.join([str(programs), os.environ["PATH"]])}
    command = [str(programs / "mlflow"), "models", "serve", "--model-uri", model, "--env-manager", "local"]
    with tempfile.TemporaryFile("w+") as output:
        server = subprocess.Popen(
            [*command, "--host", HOST, "--port", str(port), *options],
            cwd=tempfile.gettempdir(),
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + timeout_s
            while not _answers(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    raise RuntimeError(f"the server must answer within {timeout_s:.0f} s, got: {output.read()[-3000:]}")
                time.sleep(0.1)
            yield port
        finally:
            server.terminate()
            server.wait(timeout=30)


def _answers(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _compare(uri: str, port: int, seconds: float) -> None:
    import mlflow

    model = mlflow.pyfunc.load_model(uri)
    shape = model.unwrap_python_model().image_shape
    print(f"images of {' x '.join(map(str, shape))}; HTTP, then in brackets `predict` in as many threads\n")
    print("| images a request | clients | images/s | to `predict` | p50 | p99 | HTTP and JSON |")
    print("|---|---|---|---|---|---|---|")
    for batch, clients in product(BATCHES, CLIENTS):
        images = np.random.default_rng(0).integers(0, 256, (batch, *shape), np.uint8)
        body = json.dumps({"inputs": images.tolist()}).encode()
        http, call = Load(), Load()
        for _ in range(TURNS):
            http.add([_client(port, body) for _ in range(clients)], seconds / TURNS)
            call.add([partial(model.predict, images)] * clients, seconds / TURNS)
        print(
            f"| {batch} | {clients} | {batch * http.rate:.0f} ({batch * call.rate:.0f}) "
            f"| x {http.rate / call.rate:.2f} "
            f"| {http.latency.p50_ms:.2f} ms ({call.latency.p50_ms:.2f}) "
            f"| {http.latency.p99_ms:.2f} ms ({call.latency.p99_ms:.2f}) "
            f"| {1 - call.latency.p50_ms / http.latency.p50_ms:.0%} |"
        )


def _client(port: int, body: bytes) -> Ask:
    """A client with a connection that it keeps. Raises RuntimeError where an answer is no 200."""
    connection = HTTPConnection(HOST, port, timeout=60)

    def ask() -> bytes:
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"every answer must have the status 200, got {answer.status}: {text.decode()[:1000]}")
        return text

    return ask


def _small_model(folder: Path) -> str:
    """The URI of the model of a new cell in the store that MLFLOW_TRACKING_URI names."""
    import mlflow

    client = mlflow.MlflowClient()
    experiment = client.create_experiment("serving", artifact_location=(folder / "artifacts").as_uri())
    command = [sys.executable, "-m", "pipelines", "run", "dataset=digits", "technique=quantize_int8"]
    settings = ["training.epochs=2", "measurement=quick", "tracking.experiment=serving", f"hydra.run.dir={folder}/out"]
    subprocess.run([*command, *settings], cwd=ROOT, check=True, stdout=sys.stderr)
    (cell,) = client.search_runs([experiment], "tags.technique = 'quantize_int8'")
    return f"runs:/{cell.info.run_id}/model"


if __name__ == "__main__":
    main()
