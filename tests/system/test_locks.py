"""Locks on real files, each of whose open descriptions locks for itself, as that of another process does."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.datasets.locked_files import Lock
from pipelines.execution import folders
from pipelines.system import runtime
from pipelines.system.locks import NoLocksError, lock
from tests.places import ROOT


def test_one_holds_a_lock_alone_and_several_share_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with path.open("w") as one, path.open("w") as other:
        assert lock(one.fileno())
        assert not lock(other.fileno(), wait=False)
        assert not lock(other.fileno(), shared=True, wait=False)
        assert lock(one.fileno(), shared=True)
        assert lock(other.fileno(), shared=True, wait=False)
        assert not lock(other.fileno(), wait=False)
        one.close()
        assert lock(other.fileno(), wait=False)


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuses)
    # An output folder has a name of its own; entries of the cache are shared.
    folders.claim(tmp_path / "outputs", "hydra.run.dir")
    with Lock(tmp_path / "image.lock") as held, pytest.raises(OSError, match="OPSCORE_CACHE must be on a file system"):
        held.exclusive()


def test_other_errors_of_a_lock_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fails)
    with (tmp_path / "a.lock").open("w") as file, pytest.raises(OSError, match="Input/output error"):
        lock(file.fileno(), wait=False)


def test_only_one_measures_whatever_the_temporary_folder(tmp_path: Path) -> None:
    name = f"test-{os.getpid()}"
    program = "from pipelines.system.runtime import machine_lock\n"
    program += f"with machine_lock('{name}', on_wait=lambda: print('waits', flush=True)): print('holds')"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with runtime.machine_lock(name, on_wait=pytest.fail):
        other = subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None and other.stdout.readline() == "waits\n"
    assert other.communicate(timeout=20)[0] == "holds\n"


def test_a_file_of_another_user_keeps_nobody_from_measuring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime, "SHARED", tmp_path)
    (tmp_path / f"opscore-{os.getuid()}-measuring.lock").symlink_to("/etc/passwd")
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "mine"))
    with runtime.machine_lock("measuring", on_wait=pytest.fail):
        assert (tmp_path / "mine" / f"opscore-{os.getuid()}-measuring.lock").exists()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with runtime.machine_lock("measuring", on_wait=pytest.fail):
        assert "so nothing else must be measured on this machine now" in caplog.text


def test_measuring_goes_on_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise NoLocksError(37, "the file system has no locks")

    monkeypatch.setattr(runtime, "lock", refuse)
    monkeypatch.setattr(runtime, "SHARED", tmp_path)
    with runtime.machine_lock("measuring", on_wait=pytest.fail):
        assert "has no locks: nothing else must be measured" in caplog.text
