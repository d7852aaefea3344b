"""The command in child processes against a store of their own."""

import atexit
import ctypes
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import mlflow
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run

from pipelines.system import fork_server

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["dataset.limit_train=300", "dataset.limit_test=100", "dataset.validation_fraction=0.2", "training.epochs=2"]
# Measured as always, in less time than `quick` takes.
BRIEFLY = ["measurement=quick", "measurement.min_duration_s=0.05", "measurement.min_calls=10"]
T = TypeVar("T")
# Folders of the places whose commands run in the background; the process of each has its folder in the command line.
STARTED: list[Path] = []


@cache
def empty_database() -> Path:
    """A SQLite file with MLflow's tables: its migrations take two seconds, a copy takes none."""
    folder = tempfile.mkdtemp(prefix="opscore-tests-")
    atexit.register(shutil.rmtree, folder)
    database = Path(folder) / "mlflow.db"
    MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first worker which needs it makes, for all."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            make(folder)
            (folder / "done").touch()
    return folder


def called(
    module: str, *arguments: str, cwd: Path, variables: Mapping[str, str], loaded: bool = True
) -> subprocess.CompletedProcess[str]:
    """`python -m <module> <arguments>` to its end. loaded: in a process that has its libraries (`fork_server`)."""
    if not loaded:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, cwd=cwd, env=dict(variables), capture_output=True, text=True, check=False)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        outputs = {"stdout": out.fileno(), "stderr": err.fileno()}
        process = fork_server.start(module, *arguments, variables=variables, onednn=True, cwd=cwd, **outputs)
        status = process.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess([module, *arguments], status, *texts)


@dataclass(frozen=True)
class Background:
    """A process that goes on."""

    process: fork_server.Process

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, negative for a signal."""
        return self.process.wait(timeout)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def in_background(
    module: str, *arguments: str, cwd: Path, variables: Mapping[str, str], output: Path, loaded: bool = True
) -> Background:
    """Start `python -m <module> <arguments>` in a session of its own. What is left of it ends with the test.

    loaded: as of `called`.
    """
    STARTED.append(output.parent)
    with output.open("w") as file:
        if loaded:
            to = {"stdout": file.fileno(), "stderr": file.fileno()}
            return Background(fork_server.start(module, *arguments, variables=variables, onednn=True, cwd=cwd, **to))
        command = [sys.executable, "-m", module, *arguments]
        return Background(
            subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, cwd=cwd, env=dict(variables), start_new_session=True
            )
        )


class Place:
    """A store and a folder of their own for a series of commands.

    uri: of a server instead of a SQLite file; name: of the experiment, its own where tests share the server.
    """

    def __init__(self, folder: Path, uri: str | None = None, name: str = "mine") -> None:
        self.folder = folder
        self.name = name
        self.uri = uri or f"sqlite:///{folder / 'mlflow.db'}"
        if uri is None:
            shutil.copy(empty_database(), folder / "mlflow.db")
        self.client = MlflowClient(self.uri, registry_uri=self.uri)
        location = None if uri else (folder / "artifacts").as_uri()
        self.experiment = self.client.create_experiment(name, artifact_location=location)

    def command(self, *arguments: str, out: str = "out") -> list[str]:
        flags = [one for one in arguments if one.startswith("-")]
        overrides = [one for one in arguments if not one.startswith("-")]
        folders = [f"hydra.run.dir={self.folder}/{out}", f"hydra.sweep.dir={self.folder}/{out}"]
        settings = [f"tracking.experiment={self.name}", *BRIEFLY, *SMALL, *folders]
        return [sys.executable, "-m", "pipelines", "run", *flags, *settings, *overrides]

    def environment(self, **environment: str) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "TF_"))}
        return inherited | {"MLFLOW_TRACKING_URI": self.uri} | environment

    def run(self, *arguments: str, out: str = "out", **environment: str) -> subprocess.CompletedProcess[str]:
        _, _, *words = self.command(*arguments, out=out)
        choices = (ROOT / "conf" / "model" / f"{word.partition('=')[2]}.yaml" for word in words if word[:6] == "model=")
        onednn = all("onednn: false" not in path.read_text() for path in choices if path.exists())
        # TensorFlow takes both settings when it is loaded.
        loaded = onednn and "deterministic=true" not in words
        return called(*words, cwd=ROOT, variables=self.environment(**environment), loaded=loaded)

    def start(self, *arguments: str, out: str = "out", loaded: bool = True) -> Background:
        """The command in the background, as `in_background` starts it."""
        _, _, *words = self.command(*arguments, out=out)
        output = self.folder / f"{out}.txt"
        return in_background(*words, cwd=ROOT, variables=self.environment(), output=output, loaded=loaded)

    def in_terminal(self, *arguments: str, out: str = "out", columns: int = 80) -> subprocess.CompletedProcess[str]:
        """The command in a terminal, to its end, with what it wrote there but for colours and movements."""
        here, there = os.openpty()
        termios.tcsetwinsize(there, (24, columns))
        command, variables = self.command(*arguments, out=out), self.environment(TERM="xterm")
        started = subprocess.Popen(command, stdin=there, stdout=there, stderr=there, cwd=ROOT, env=variables)
        os.close(there)
        parts = []
        # Linux ends a terminal that no process holds with an error.
        with suppress(OSError), os.fdopen(here, "rb", buffering=0) as terminal:
            while part := terminal.read(4096):
                parts.append(part)
        text = b"".join(parts).decode().replace("\r\n", "\n")
        return subprocess.CompletedProcess(command, started.wait(), re.sub(r"\x1b\[[?\d;]*\w", "", text))

    def opscore(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of opscore on this store, called in the folder."""
        return called("pipelines", *words, cwd=self.folder, variables=child_environment(self.uri))

    def all(self, condition: str = "") -> list[Run]:
        return list(self.client.search_runs([self.experiment], condition))

    def cells(self, condition: str = "") -> list[Run]:
        """The runs of cells, without the sweeps'."""
        return [run for run in self.all(condition) if "opscore.fingerprint" in run.data.tags]

    def sweeps(self) -> list[Run]:
        """The sweeps' runs, the newest first."""
        return [run for run in self.all() if "sweep" in run.data.tags]

    def runs(self, condition: str = "") -> dict[str, Run]:
        return {run.info.run_name: run for run in self.all(condition)}

    def files(self, run: Run) -> Path:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=run.info.artifact_uri, tracking_uri=self.uri))


def logged_data(run: Run) -> list[DatasetInput]:
    """The datasets that a run logged."""
    assert run.inputs is not None
    return list(run.inputs.dataset_inputs)


def child_environment(uri: str) -> dict[str, str]:
    """The environment of a command in another folder than the checkout, with the store `uri`."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "TF_"))}
    return inherited | {"MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(ROOT)}


def end_what_was_started() -> None:
    """Kill every process that was started for a place, cells in sessions of their own included."""
    while STARTED:
        folder = str(STARTED.pop())
        for process in psutil.process_iter(["cmdline"]):
            with suppress(psutil.Error):
                words = process.info["cmdline"] or []
                # A copy of a server has the server's command line, and a cell's has its log open.
                if "pipelines.system.fork_main" in words:
                    words = [file.path for file in process.open_files()]
                if any(folder in word for word in words):
                    process.kill()


def until(found: Callable[[], T], *, seconds: float = 90) -> T:
    """What `found` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"nothing came within {seconds} s")


def unprivileged() -> None:
    """Let root be refused what its files do not permit, as everybody else is."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            if libc.prctl(24, capability, 0, 0, 0) != 0:  # PR_CAPBSET_DROP
                raise OSError(ctypes.get_errno(), "no capability can be given up")
