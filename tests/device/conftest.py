import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.commands import cli
from pipelines.device.settings import PROFILES
from tests.device.recorded_runs import FAST, RecordedRuns


@pytest.fixture(autouse=True)
def fast_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process use a profile that takes seconds, of two windows: each starts processes."""
    monkeypatch.setitem(PROFILES, "quick", replace(FAST, windows=2))


@pytest.fixture
def cells(tmp_path: Path, made: Path) -> RecordedRuns:
    store = RecordedRuns(tmp_path)
    store.baseline = store.add("baseline", made / "float32.tflite")
    store.int8 = store.add("quantize_int8", made / "int8.tflite")
    return store


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The output of the command in this process; with `fails`, its one sentence, and it must exit with 1 or 2."""

    def run(*words: str, fails: bool = False) -> str:
        own = [] if any(word.startswith("out=") for word in words) else [f"out={tmp_path / 'measured'}"]
        # A session is sent as it is.
        own = [] if any(word.startswith("send=") for word in words) else ["profile=quick", *own]
        monkeypatch.setattr(sys, "argv", ["opscore", "measure", *words, *own])
        if fails:
            with pytest.raises(SystemExit) as ended:
                cli.main()
            assert ended.value.code in (1, 2)
            refusal = capsys.readouterr().err.splitlines()[-1]
            assert refusal.startswith("opscore: ")
            return refusal
        cli.main()
        return capsys.readouterr().out

    return run
