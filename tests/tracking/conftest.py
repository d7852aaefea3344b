"""A store with finished cells, and its commands in this process, for promotion, rollback and pulling."""

import shutil
import sys
from pathlib import Path

import pytest

from pipelines.commands import cli
from tests.places import Place, once
from tests.tracking.promotion import Command, Copy


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a baseline, two techniques from it, and the two again under a budget that they cannot keep."""

    def make(folder: Path) -> None:
        # In one process, so that TensorFlow is loaded once.
        words = ["sweep.isolation=inline", "technique=quantize_float16,quantize_int8"]
        # Enough epochs for all to be about as accurate.
        done = Place(folder).run("-m", *words, "score.max_size_mb=null,0.001", "training.epochs=5")
        assert done.returncode == 0, done.stdout + done.stderr

    return once(tmp_path_factory, "store", make) / "mlflow.db"


@pytest.fixture
def copy(database: Path, tmp_path: Path) -> Copy:
    shutil.copy(database, tmp_path)
    return Copy(tmp_path)


@pytest.fixture
def opscore(copy: Copy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process; gives its stdout, or with `fails` the refusal that it must end with."""

    def run(name: str, *words: str, fails: bool = False) -> str:
        experiment = ["experiment=mine"] if name == "promote" else []
        # Of two words with one name the last counts.
        given = ["dataset=digits", f"tracking.uri={copy.uri}", *experiment, *words]
        monkeypatch.setattr(sys, "argv", ["opscore", name, *given])
        if not fails:
            cli.main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code in (1, 2)
        _, found, refusal = capsys.readouterr().err.rpartition("opscore: ")
        assert found
        return refusal.removesuffix("\n")

    return run
