"""A grid of which no cell can run is refused once, before its sweep is opened."""

import subprocess
import sys
from pathlib import Path

from tests.places import ROOT


def refused(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.run", "-m", *arguments],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT),
             "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert not list(folder.iterdir()), "neither a store nor a sweep's folder is made"
    return done.stderr


def test_shared_reason_is_reported_once(tmp_path: Path) -> None:
    refusal = refused(
        tmp_path, "dataset=npz", "dataset.path=absent.npz", "technique=baseline,quantize_int8", "seed=0,1"
    )
    assert refusal.startswith("opscore: none of the 4 cells can run: ") and refusal.count("absent.npz") == 1, refusal
    assert refusal.count("\n") == 1


def test_single_cell_is_refused_by_its_reason(tmp_path: Path) -> None:
    assert refused(tmp_path, "training.epochs=0").startswith("opscore: training.epochs must be a whole number")


def test_reasons_are_reported_with_cell_counts(tmp_path: Path) -> None:
    refusal = refused(
        tmp_path, "dataset=npz", "dataset.path=absent.npz,nowhere.npz", "technique=transfer,baseline,quantize_int8"
    )
    first, *reasons = refusal.splitlines()
    assert first == "opscore: none of the 6 cells can run:"
    assert [reason.split(":")[0] for reason in reasons] == ["  2 cells"] * 3


def test_grid_of_nothing_but_skipped_cells_is_refused(tmp_path: Path) -> None:
    refusal = refused(tmp_path, "technique=transfer", "seed=0,1")
    assert refusal.startswith("opscore: none of the 2 cells can run: ") and "pretrained" in refusal
