"""Copies of a server that has the libraries, and new interpreters, start the same processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.system import fork_server
from pipelines.system.fork_server import Server
from tests.places import ROOT, until

SHOW = """
import json, os, sys, threading, time
import numpy as np
import pipelines
tasks = len(os.listdir("/proc/self/task"))
heavy = [name for name in ("tensorflow", "mlflow") if name in sys.modules]
own = sorted(name for name in sys.modules if name.startswith("pipelines.") and name.count(".") == 1)
print(json.dumps({
    "arguments": sys.argv[1:], "cwd": os.getcwd(), "path": sys.path[:2], "seen": dict(os.environ), "heavy": heavy,
    "own": own, "leads": os.getsid(0) == os.getpid(), "main": __name__, "threads": threading.active_count(),
    "pipelines": pipelines.__file__, "random": float(np.random.rand()), "stdin": sys.stdin.read(),
}))
print("to stderr", file=sys.stderr)
sys.stdout.flush()
if "wait" in sys.argv:
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "show.py").write_text(SHOW)
    return tmp_path


def run(folder: Path, *arguments: str, **variables: str) -> tuple[fork_server.Process, Path]:
    out = folder / "out.txt"
    with out.open("wb") as file:
        given = {"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{folder}", **variables}
        number = file.fileno()
        started = fork_server.start(
            "show", *arguments, variables=given, onednn=True, cwd=folder, stdout=number, stderr=number
        )
    return started, out


def printed(out: Path) -> dict[str, Any]:
    (line,) = (one for one in out.read_text().splitlines() if one.startswith("{"))
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize("safe", [True, False])
def test_process_is_the_requested_one(folder: Path, safe: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not safe:
        monkeypatch.setattr(fork_server, "_servers", {True: None})
    # A project of one's own with a package of that name.
    (folder / "pipelines").mkdir()
    (folder / "pipelines/__init__.py").touch()
    started, out = run(folder, "7", OPSCORE_TEST="here", PYTHONPATH=str(folder))
    assert started.wait(60) == 7 == started.wait(60)
    shown = printed(out)
    assert "to stderr" in out.read_text()
    assert shown["arguments"] == ["7"] and shown["main"] == "__main__" and shown["leads"]
    assert shown["path"][0] == str(folder if safe else ROOT)
    assert shown["pipelines"] == str(ROOT / "pipelines/__init__.py")
    assert shown["cwd"] == str(folder) and shown["stdin"] == ""
    assert shown["seen"]["OPSCORE_TEST"] == "here" and "HOME" not in shown["seen"]
    assert shown["threads"] == 1
    # opscore's own code is that of the moment, and not the server's.
    assert shown["heavy"] == (["tensorflow", "mlflow"] if safe else [])
    assert set(shown["own"]) <= {"pipelines.system"}


def test_copies_draw_different_random_numbers(folder: Path) -> None:
    drawn = set()
    for _ in range(2):
        started, out = run(folder, "0")
        assert started.wait(60) == 0
        drawn.add(printed(out)["random"])
    assert len(drawn) == 2


def test_timeout_and_signal_are_those_of_popen(folder: Path) -> None:
    started, out = run(folder, "0", "wait")
    until(out.read_text)
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(0.1)
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(0.0)
    os.killpg(started.pid, signal.SIGKILL)
    assert started.wait(60) == -signal.SIGKILL


@pytest.mark.slow
def test_killed_server_is_replaced_by_a_new_interpreter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server.launch({"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}, onednn=True)
    monkeypatch.setattr(fork_server, "_servers", {True: server})
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    started, out = run(folder, "3")
    assert isinstance(started, subprocess.Popen) and started.wait(60) == 3
    assert printed(out)["heavy"] == []


@pytest.mark.slow
def test_server_ends_with_its_last_process(folder: Path) -> None:
    program = (
        "import os\nfrom pathlib import Path\nfrom pipelines.system import fork_server\n"
        "process = fork_server.start('show', '0', 'wait', variables={**os.environ}, onednn=True, cwd=Path('.'))\n"
        "Path('pids').write_text(f'{process.pid} {fork_server._servers[True].process.pid}')\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    copy, server = map(psutil.Process, map(int, (folder / "pids").read_text().split()))
    assert done.returncode == -signal.SIGKILL
    time.sleep(0.5)
    assert copy.is_running() and server.is_running()
    copy.kill()
    until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, seconds=20)
