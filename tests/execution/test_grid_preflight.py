"""A grid of which no cell can run is refused once, before its sweep is opened."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from pipelines.cells.compose import CONF
from pipelines.execution import grid
from pipelines.execution.overrides import prepared
from tests.places import ROOT


def refused(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "run", "-m", *arguments],
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


def test_field_of_all_varied_choices_reaches_them(tmp_path: Path) -> None:
    # The default technique, a baseline, has no epochs of its own.
    refusal = refused(tmp_path, "technique=cluster,prune", "technique.epochs=0")
    assert refusal.startswith("opscore: none of the 2 cells can run: technique.epochs must be a whole number"), refusal
    fault = "technique.sparsity is a field of technique=prune and not of technique=cluster: sweep them in two commands"
    assert refused(tmp_path, "technique=cluster,prune", "technique.sparsity=0.5") == f"opscore: {fault}\n"
    unknown = refused(tmp_path, "technique=cluster,prune", "technique.nothing=1")
    assert unknown.startswith("opscore: technique.nothing is no field of technique ("), unknown


def test_misspelt_field_of_a_grid_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path, "training.epoch=1,2").endswith(": did you mean training.epochs=1,2?\n")
    assert refused(tmp_path, "seeds=range(1,3)").endswith(": did you mean 'seed=range(1,3)'?\n")


def test_grid_of_nothing_but_skipped_cells_is_refused(tmp_path: Path) -> None:
    refusal = refused(tmp_path, "technique=transfer", "seed=0,1")
    assert refusal.startswith("opscore: none of the 2 cells can run: ") and "pretrained" in refusal


def test_each_cell_resolves_a_reference_by_its_own_values(tmp_path: Path) -> None:
    refusal = refused(tmp_path, "dataset=folder", "dataset.path=photos${seed}", "seed=1,2")
    assert [line.rpartition("got ")[2].split(":")[0] for line in refusal.splitlines()[1:]] == ["photos1", "photos2"]


def test_references_to_what_hydra_gives_a_job_are_taken(tmp_path: Path) -> None:
    for word in (
        "hydra.sweep.subdir=${hydra.job.num}",
        "hydra.sweep.subdir=${hydra.job.override_dirname}",
        "model.name=n${hydra:job.num}",
    ):
        refusal = refused(tmp_path, "seed=0,1", word, "training.epochs=0")
        assert refusal.startswith("opscore: none of the 2 cells can run: training.epochs must be"), refusal


def test_reference_is_recorded_as_it_was_typed() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", ["seed=1", "dataset.split_seed=${seed}"], return_hydra_config=True)
        assert grid.lines(config) == ["seed=1", "dataset.split_seed=${seed}"]


def test_pattern_of_files_is_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b", "a", "c", "old"):
        (tmp_path / f"{name}.keras").touch()
    named = "model.path=" + ",".join(f'"{tmp_path}/{one}.keras"' for one in "abc")
    monkeypatch.setenv("HOME", str(tmp_path))
    for pattern in (
        f"{tmp_path}/*.keras,exclude=*/old*",
        "~/*.keras,exclude=~/old*",
        f"['{tmp_path}/a*','~/b*',~/c*]",
        "'~/*.keras',exclude=['*/old*']",
    ):
        assert prepared(["-m", f"model.path=glob({pattern})"]) == ["-m", named], pattern
