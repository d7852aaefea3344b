"""MLflow's tracking server on PostgreSQL, for this machine: `opscore server`, or `make server`.

It listens on 127.0.0.1 until Ctrl-C. Database, artifacts and logs lie in one folder, with which the next start goes
on. PostgreSQL is started along with it, unless --database names one.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from pipelines.commands import arguments
from pipelines.tracking.address import EMBEDDED
from pipelines.tracking.credentials import adopted

HOST = "127.0.0.1"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Where Debian keeps a folder for each version, none of them on PATH.
INSTALLED = Path("/usr/lib/postgresql")
# Each of MLflow's workers has a pool of 15 for the runs and another for the registry.
CONNECTIONS_PER_WORKER = 30
# MLflow takes seconds to import: upgrading in the server's own process, before it starts its workers, spares them a
# second time. The same call fills an empty database.
MLFLOW = """
import os, sys
from mlflow.cli import cli
from pipelines.tracking.schema import upgrade
upgrade(os.environ["MLFLOW_BACKEND_STORE_URI"])
cli(["server", *sys.argv[1:]], prog_name="mlflow")
"""


class Child:
    """A program in a session of its own, which writes to a log file and is told to end when this process dies.

    ends_on: the signal upon which it ends cleanly. options: those of subprocess.Popen.
    """

    def __init__(self, command: Sequence[str], *, log: Path, ends_on: signal.Signals, **options: Any) -> None:
        self.log = log
        self._ends_on = ends_on
        libc = ctypes.CDLL(None)

        def end_with_parent() -> None:
            if sys.platform == "linux":
                libc.prctl(1, ends_on)  # 1 is PR_SET_PDEATHSIG

        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=log.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 (no thread runs here)
                **options,
            )

    def check(self) -> None:
        """Raise ChildProcessError where it has ended, with the last line of its log."""
        status = self._process.poll()
        if status is not None:
            how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            lines = self.log.read_text(errors="replace").splitlines() or [""]
            raise ChildProcessError(f"{self.log.stem} {how}: see {self.log}, which ends with {lines[-1]!r}")

    def stop(self, patience_s: float) -> None:
        """End it cleanly, and kill what is left of its process group after `patience_s`."""
        try:
            self._process.send_signal(self._ends_on)
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class Postgres:
    """PostgreSQL with its cluster in `folder`/postgres and a database opscore, running inside `with`.

    It listens on a unix socket only, in a folder that nobody but its own user may enter. Started by root, it runs as
    the user postgres, because PostgreSQL refuses root. Raises FileNotFoundError where PostgreSQL is not installed,
    PermissionError where that user is missing or cannot enter the folder, ChildProcessError where no cluster results.
    """

    def __init__(self, folder: Path, connections: int) -> None:
        self.cluster = folder / "postgres"
        self.connections = connections
        self._initdb, self._postgres = program("initdb"), program("postgres")
        self._identity = _identity()
        for place in (*reversed(self.cluster.parents), self.cluster) if self._identity else ():
            if place.exists() and self._run("test", "-x", str(place)).returncode:
                raise PermissionError(
                    f"the user postgres, as whom root starts PostgreSQL, must be able to enter {place} in order to "
                    f"reach {self.cluster}: choose another place with --folder"
                )

    @property
    def uri(self) -> str:
        """The database as SQLAlchemy takes it."""
        return f"postgresql+psycopg://opscore@/opscore?host={self._sockets}"

    def __enter__(self) -> Postgres:
        if not self.cluster.is_dir():
            self._create_cluster()
        # Neither in the folder nor in TMPDIR: a socket's path must be shorter than 108 bytes.
        self._sockets = self._own(tempfile.mkdtemp(prefix="opscore-postgres-", dir="/tmp"))
        self.process = Child(
            [self._postgres, "-D", str(self.cluster), "-h", "", "-k", str(self._sockets), "-N", str(self.connections)],
            log=self.cluster.with_name("postgres.log"),
            ends_on=signal.SIGINT,  # what pg_ctl calls a fast stop
            **self._identity,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop(patience_s=60)  # it writes out its buffers
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _create_cluster(self) -> None:
        # Beside its place at first, so that an interrupted start leaves no half of a cluster there.
        unfinished = self.cluster.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._own(unfinished)
        access = ["--username=opscore", "--auth-local=trust", "--auth-host=reject"]
        created = self._run(self._initdb, "-D", str(unfinished), "--encoding=UTF8", "--no-locale", *access)
        if not created.returncode:
            single = [self._postgres, "--single", "-D", str(unfinished), "postgres"]
            created = self._run(*single, said="CREATE DATABASE opscore\n")
        if created.returncode:
            raise ChildProcessError(f"PostgreSQL could not create {self.cluster}: {created.stderr.strip()}")
        unfinished.rename(self.cluster)

    def _run(self, *command: str, said: str = "") -> subprocess.CompletedProcess[str]:
        # The current folder may be closed to the user postgres.
        return subprocess.run(
            command, input=said, cwd="/", capture_output=True, text=True, check=False, **self._identity
        )

    def _own(self, folder: str | Path) -> Path:
        os.chown(folder, self._identity.get("user", -1), self._identity.get("group", -1))
        return Path(folder)


def program(name: str) -> str:
    """Path of a program of PostgreSQL: from PATH, else the newest installed. Raises FileNotFoundError."""
    newest = sorted(INSTALLED.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *map(str, newest)]))
    if found is None:
        raise FileNotFoundError(
            f"PostgreSQL's {name} must be on PATH or in {INSTALLED}/*/bin, and is not: apt-get install postgresql, or "
            "name a running PostgreSQL with --database"
        )
    return found


def start_mlflow(uri: str, *, folder: Path, port: int, workers: int) -> Child:
    """MLflow's server on the database `uri`, whose schema it creates or upgrades first."""
    environment = {
        # Its runners of jobs judge language models: here, eight idle processes of 1.5 GB that outlive a stop.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **os.environ,
        # Not an argument, because it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
    artifacts = ["--artifacts-destination", (folder / "artifacts").as_uri(), "--serve-artifacts"]
    listening = ["--host", HOST, "--port", str(port), "--workers", str(workers), "--app-name", "opscore"]
    command = [sys.executable, "-c", MLFLOW, *artifacts, *listening]
    return Child(command, log=folder / "mlflow.log", ends_on=signal.SIGTERM, env=environment)


def serve(*, port: int, folder: Path, workers: int, database: str | None) -> None:
    """Serve until a signal ends this process. Raises ChildProcessError where PostgreSQL or MLflow ends before.

    Raises OSError or ImportError, with the mend, where the server cannot be started.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise ModuleNotFoundError("psycopg must be installed to reach PostgreSQL: pip install -e '.[server]'")
    _check_free(port)
    if database is not None:
        database = adopted(database)
        _check_answers(database)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as running:
        running.enter_context(_claimed(folder, port))
        print(f"opscore: starting the tracking server, which writes its logs to {folder}", flush=True)
        processes = []
        if database is None:
            postgres = running.enter_context(Postgres(folder, CONNECTIONS_PER_WORKER * workers + 10))
            database = postgres.uri
            processes.append(postgres.process)
        # It waits for PostgreSQL by itself.
        mlflow = start_mlflow(database, folder=folder, port=port, workers=workers)
        running.callback(mlflow.stop, patience_s=10)
        running.callback(print, "opscore: stopping", flush=True)
        _watch([*processes, mlflow], port)


def _watch(processes: Sequence[Child], port: int) -> None:
    # Without a limit of time for the first answer: upgrading a large database takes what it takes.
    ready = False
    while True:
        for process in processes:
            process.check()
        if not ready and (ready := _healthy(port)):
            print(f"opscore: ready until Ctrl-C\nexport MLFLOW_TRACKING_URI=http://{HOST}:{port}", flush=True)
        time.sleep(0.2)


@click.command("server", cls=arguments.Command, help=__doc__)
@click.option("--port", type=int, default=5000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=EMBEDDED / "server", help="Default: mlruns/server.")
@click.option("--workers", type=int, default=4, show_default=True, help="MLflow's processes for requests.")
@click.option("--database", metavar="URI", help="A running one: postgresql+psycopg://user:password@host/name.")
def command(port: int, folder: Path, workers: int, database: str | None) -> None:
    """Serve; ends with status 0 after a signal, 1 where a part ended by itself, 2 where it could not start."""
    for one in SIGNALS:
        # nohup, and a shell that puts a job into the background, ignore some on purpose.
        if signal.getsignal(one) != signal.SIG_IGN:
            signal.signal(one, _end)
    try:
        serve(port=port, folder=folder, workers=workers, database=database)
    except ChildProcessError as error:
        sys.exit(f"opscore: {error}")
    except (OSError, ImportError) as error:
        print(f"opscore: {error}", file=sys.stderr)
        sys.exit(2)


main = arguments.entry(command, "python -m pipelines.server")


def _end(*_: object) -> None:
    # A second Ctrl-C must not interrupt the stopping.
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    sys.exit(0)


def _identity() -> dict[str, Any]:
    """subprocess's options that run PostgreSQL's programs as another user than root."""
    if os.geteuid() != 0:
        return {}
    try:
        account = pwd.getpwnam("postgres")
    except KeyError:
        raise PermissionError(
            "PostgreSQL refuses to run as root, and there is no user postgres to run it as: start the server as "
            "another user, or name a running PostgreSQL with --database"
        ) from None
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _check_answers(database: str) -> None:
    """Raise ConnectionError where it does not: MLflow would go on trying for 100 seconds."""
    import psycopg

    try:
        # SQLAlchemy's name of a driver means nothing to libpq.
        psycopg.connect(re.sub(r"^postgresql\+\w+:", "postgresql:", database), connect_timeout=5).close()
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise ConnectionError(f"--database must be a PostgreSQL that answers, got: {said}") from error


@contextlib.contextmanager
def _claimed(folder: Path, port: int) -> Iterator[None]:
    """Keep other servers out of the folder. Raises BlockingIOError where one is in it; one that dies lets others in."""
    with (folder / "server.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise BlockingIOError(
                f"--folder must be one that no other server uses, got {folder}, which process {lock.read().strip()} "
                "serves: use that server, or choose another by --folder"
            ) from error
        lock.truncate(0)
        print(f"{os.getpid()} at http://{HOST}:{port}", file=lock, flush=True)
        yield


def _check_free(port: int) -> None:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port))
        except OSError as error:
            raise OSError(
                f"port {port} of {HOST} is taken: end what listens there, or choose another by --port"
            ) from error


def _healthy(port: int) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), direct.open(f"http://{HOST}:{port}/health", timeout=5):
        return True
    return False
