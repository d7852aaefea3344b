"""Copies of a measuring process, and how their ends are reported."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipelines.litert.process import in_copy
from tests.places import until

ROOT = Path(__file__).resolve().parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux only")


def refuse(number: int) -> None:
    raise ValueError(f"number must be 1, got {number}")


class TestCopy:
    def test_gives_the_result(self):
        assert in_copy("adding", sum, [1, 2]) == 3

    @LINUX
    def test_is_a_process_of_its_own(self):
        assert len({os.getpid(), in_copy("a", os.getpid), in_copy("b", os.getpid)}) == 3

    def test_raises_what_the_work_raises(self):
        with pytest.raises(ValueError, match=r"^number must be 1, got 2$"):
            in_copy("refusing", refuse, 2)

    @LINUX
    @pytest.mark.parametrize(
        ("work", "argument", "ending"),
        [(signal.raise_signal, signal.SIGKILL, "was killed by SIGKILL"), (os._exit, 3, "ended with exit code 3")],
    )
    def test_that_dies_is_one_sentence(self, work, argument, ending):
        with pytest.raises(ChildProcessError, match=f"^the process for window 2 of 5 {ending} and left no result$"):
            in_copy("window 2 of 5", work, argument)

    @LINUX
    def test_that_dies_ends_the_measuring_process(self, tmp_path):
        code = (
            "import signal; from types import SimpleNamespace; from pipelines.litert.process import in_copy, serve; "
            "serve(SimpleNamespace, lambda _: in_copy('window 2 of 5', signal.raise_signal, signal.SIGKILL))"
        )
        request = tmp_path / "request.json"
        request.write_text("{}")
        done = subprocess.run(
            [sys.executable, "-c", code, request], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert done.stderr == "the process for window 2 of 5 was killed by SIGKILL and left no result\n"
        assert [path.name for path in tmp_path.iterdir()] == ["request.json"]

    @LINUX
    def test_dies_with_its_parent(self):
        work = "lambda: (print(os.getpid(), flush=True), time.sleep(300))"
        code = f"import os, time; from pipelines.litert.process import in_copy; in_copy('sleeping', {work})"
        with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            copy = int(parent.stdout.readline())
            assert psutil.pid_exists(copy)
            parent.kill()
        assert until(lambda: not psutil.pid_exists(copy) or psutil.Process(copy).status() == psutil.STATUS_ZOMBIE)
