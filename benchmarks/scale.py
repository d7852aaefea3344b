"""Comparing and reporting over many runs: seconds and memory at growing numbers of finished cells.

    python -m benchmarks.scale [--runs 200 2000 20000] [--stores sqlite postgresql]

Fills an empty store with synthetic cells, half of them on each of two datasets, no two of them seeds of one cell: 40
metrics (30 for a baseline), the parameters, tags and datasets of a real one, and an artifact of 100 MB each. The
artifacts are holes that take no room on the disk; read, they would. Then runs `python -m pipelines compare` and
`python -m pipelines report` as a user does, each in a process of its own: on the SQLite file, and over HTTP on the
server of `make server`, MLflow over PostgreSQL. Metrics have no histories, which neither command reads.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from socket import socket

from pipelines.commands.server import CONNECTIONS_PER_WORKER, HOST, is_healthy, start_mlflow
from pipelines.tracking.postgres import Postgres

ROOT = Path(__file__).resolve().parents[1]
ARTIFACT_BYTES = 100_000_000
WORKERS = 4
# The peak that `wait` reports includes the parent at the fork; this one is the command's own.
CHILD = """
import os, runpy, sys
try:
    runpy.run_module("pipelines", run_name="__main__", alter_sys=True)
finally:
    used = os.times()
    peak_kb, = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(used.user + used.system, peak_kb, file=sys.stderr)
"""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a command took, from its start to its end. cpu_s: of its own process, not of a server's."""

    seconds: float
    cpu_s: float
    peak_mb: int
    page: str = ""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A store in a folder: uri as a user names it, database as SQLAlchemy does."""

    folder: Path
    uri: str
    database: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[200, 2000, 20_000], help="default: 200 2000 20000")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=[*STORES], help="default: all")
    arguments = parser.parse_args()
    print("| store | runs | command | time | CPU | a run | to the first row | peak of memory | page |")
    print("|---|---|---|---|---|---|---|---|---|")
    for store in arguments.stores:
        first: dict[str, float] = {}
        for runs in sorted(arguments.runs):
            with tempfile.TemporaryDirectory(prefix="opscore-scale-", ignore_cleanup_errors=True) as name:
                # The user nobody, as whom root starts PostgreSQL, must be able to enter it.
                Path(name).chmod(0o755)
                for command, taken in _measured(STORES[store], Path(name), runs).items():
                    each_ms = 1000 * taken.seconds / runs
                    ratio = each_ms / first.setdefault(command, each_ms)
                    print(
                        f"| {store} | {runs:,} | {command} | {taken.seconds:.1f} s | {taken.cpu_s:.1f} s "
                        f"| {each_ms:.1f} ms | x {ratio:.2f} | {taken.peak_mb} MB | {taken.page} |",
                        flush=True,
                    )


@contextmanager
def sqlite(folder: Path) -> Iterator[Place]:
    """The SQLite file that a command makes where it finds none."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    yield Place(folder=folder, uri=uri, database=uri)


@contextmanager
def postgresql(folder: Path) -> Iterator[Place]:
    """MLflow's server over PostgreSQL, once it answers."""
    with socket() as tried:
        tried.bind((HOST, 0))
        port = int(tried.getsockname()[1])
    with (
        Postgres(folder, CONNECTIONS_PER_WORKER * WORKERS + 10) as postgres,
        start_mlflow(postgres.uri, folder=folder, port=port, workers=WORKERS) as server,
    ):
        while not is_healthy(port):
            server.check()
            time.sleep(0.2)
        yield Place(folder=folder, uri=f"http://{HOST}:{port}", database=postgres.uri)


Opener = Callable[[Path], AbstractContextManager[Place]]
STORES: dict[str, Opener] = {"sqlite": sqlite, "postgresql": postgresql}


def _measured(store: Opener, folder: Path, runs: int) -> dict[str, Taken]:
    """Both commands, on a store that is filled for them."""
    with store(folder) as place:
        # In a process of its own, which is gone with its memory before anything is measured.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
            other.submit(_fill, place, runs).result()
        compared = _run(place, "compare")
        reported = _run(place, "report", f"out={folder / 'report'}")
        megabytes = (folder / "report" / "report.html").stat().st_size / 1e6
    return {"compare": compared, "report": replace(reported, page=f"{megabytes:.1f} MB")}


def _fill(place: Place, runs: int) -> None:
    from benchmarks.synthetic import cells, fill
    from pipelines.results.folder import CellFiles
    from pipelines.tracking.store import Store

    store = Store(place.uri, "opscore")
    location = store.client.get_experiment(store.experiment_id).artifact_location
    fill(place.database, store.experiment_id, location, runs)
    # A server's URI of them is not where it keeps them.
    files = place.folder / "artifacts" / ("" if location.startswith("file:") else store.experiment_id)
    for cell in cells(runs):
        folder = files / cell.run_id / "artifacts" / "cell"
        folder.mkdir(parents=True)
        with CellFiles(folder).exported_model.open("wb") as exported_model:
            exported_model.truncate(ARTIFACT_BYTES)


def _run(place: Place, name: str, *arguments: str) -> Taken:
    environment = os.environ | {"MLFLOW_TRACKING_URI": place.uri}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, name, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{name} must end with status 0, got {done.returncode}: {done.stderr[-3000:]}")
    *_, cpu_s, peak_kb = done.stderr.split()
    return Taken(seconds=seconds, cpu_s=float(cpu_s), peak_mb=int(peak_kb) // 1000)


if __name__ == "__main__":
    main()
