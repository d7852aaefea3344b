"""Serve MLflow on PostgreSQL, for this machine: `opscore server`, or `make server`.

The server listens on 127.0.0.1 until Ctrl-C. Database, artifacts and logs are in one folder, which the next start uses
again. It starts its own PostgreSQL, unless --database names a running one.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sys
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TextIO

import click

from pipelines.commands import arguments
from pipelines.system import interpreter
from pipelines.system.guard import MisuseError
from pipelines.system.locks import lock
from pipelines.tracking import server_main
from pipelines.tracking.address import EMBEDDED
from pipelines.tracking.credentials import adopted
from pipelines.tracking.postgres import INSTALL, Postgres, Program
from pipelines.tracking.reachable import check_reachable

HOST = "127.0.0.1"
# Each of MLflow's workers has a pool of 15 for the runs and another for the registry.
CONNECTIONS_PER_WORKER = 30


def start_mlflow(uri: str, *, folder: Path, port: int, workers: int) -> Program:
    """MLflow's server on the database `uri`, whose tables it creates or upgrades first."""
    environment = {
        # Its job runners serve language models. Here they would be eight idle processes of 1.5 GB that survive a stop.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **os.environ,
        # Not an argument, because it may hold a password.
        server_main.STORE: uri,
    }
    artifacts = ["--artifacts-destination", (folder / "artifacts").as_uri(), "--serve-artifacts"]
    listening = ["--host", HOST, "--port", str(port), "--workers", str(workers), "--app-name", "opscore"]
    mlflow = interpreter.command(server_main.__name__, *artifacts, *listening)
    variables = interpreter.environment(environment)
    return Program(mlflow, log=folder / "mlflow.log", stop=signal.SIGTERM, cwd=folder, env=variables)


def serve(*, port: int, folder: Path, workers: int, database: str | None) -> None:
    """Serve until a signal ends this process.

    Raises MisuseError where the server cannot start, ChildProcessError where PostgreSQL or MLflow ends by itself.
    """
    database = _check(port, database)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as running:
        _claim(running.enter_context((folder / "server.lock").open("a+")), f"{os.getpid()} at http://{HOST}:{port}")
        print(f"opscore: starting the tracking server, which writes its logs to {folder}", flush=True)
        programs: list[Program] = []
        if database is None:
            postgres = running.enter_context(Postgres(folder, CONNECTIONS_PER_WORKER * workers + 10))
            programs, database = [postgres], postgres.uri
        # MLflow waits for PostgreSQL.
        programs.append(running.enter_context(start_mlflow(database, folder=folder, port=port, workers=workers)))
        running.callback(print, "opscore: stopping", flush=True)
        # There is no time limit for the first answer, because migrating a large database takes long.
        ready = False
        while True:
            for program in programs:
                program.check()
            if not ready and (ready := is_healthy(port)):
                print(f"opscore: ready until Ctrl-C\nexport MLFLOW_TRACKING_URI=http://{HOST}:{port}", flush=True)
            time.sleep(0.2)


def is_healthy(port: int) -> bool:
    """Whether MLflow's server answers on this port."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(OSError), direct.open(f"http://{HOST}:{port}/health", timeout=5):
        return True
    return False


def _check(port: int, database: str | None) -> str | None:
    """The address of a database that answers, without its password. Raises MisuseError."""
    if importlib.util.find_spec("psycopg") is None:
        raise MisuseError(f"psycopg must be installed to reach PostgreSQL: {INSTALL}")
    try:
        socket.create_server((HOST, port)).close()
    except PermissionError as error:
        raise MisuseError(f"--port must be one that this user may open, got {port}: set --port 5000") from error
    except OSError as error:
        mend = "end what listens there, or choose another by --port"
        raise MisuseError(f"port {port} of {HOST} is taken: {mend}") from error
    if database is None:
        return None
    database = adopted(database)
    if not database.startswith("postgresql"):
        raise MisuseError(f"--database must begin with postgresql://, got {database}")
    try:
        check_reachable(database)
    except ConnectionError as error:
        raise MisuseError(f"--database must be a PostgreSQL that answers, got: {error.__cause__}") from error
    return database


def _claim(file: TextIO, server: str) -> None:
    """Lock the folder against other servers. The lock ends with this process."""
    if not lock(file.fileno(), wait=False):
        file.seek(0)
        raise MisuseError(
            f"--folder must be one that no other server uses, got {Path(file.name).parent}, which process "
            f"{file.read().strip()} serves: use that server, or choose another by --folder"
        )
    file.truncate(0)
    print(server, file=file, flush=True)


@click.command("server", cls=arguments.WordCommand, help=__doc__)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@click.option("--folder", type=arguments.Location(), default=EMBEDDED / "server", help="Default: mlruns/server.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=4, show_default=True, help="MLflow's processes for requests."
)
@click.option("--database", metavar="URI", help="A running one: postgresql+psycopg://user:password@host/name.")
def command(port: int, folder: Path, workers: int, database: str | None) -> None:
    """Serve; exit with 0 after a signal, 1 where a program ended by itself, 2 where one could not start."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
        signal.signal(signal.SIGHUP, lambda *_: sys.exit())
    with suppress(KeyboardInterrupt):
        serve(port=port, folder=folder, workers=workers, database=database)
