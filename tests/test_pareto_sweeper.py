"""Multi-objective search, by a small application of Hydra's in real processes, whose objectives are formulas."""

import json
import math
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException, ConfigCompositionException

from hydra_plugins.opscore_pareto_sweeper import MISSES, Outcome, ParetoSweeper, outcome_of, table
from pipelines.comparison.ranking import pareto_front

ROOT = Path(__file__).resolve().parents[1]
OBJECTIVES = ("test/accuracy", "time/test_ms_p50", "size/compressed_bytes")
# The first ten trials are drawn at random, the rest from their results; a shuffle has no effect.
SEARCH = ("x=interval(0,1)", "n=shuffle(range(1,9))", "hydra.sweeper.n_trials=12", "hydra.sweeper.batch_size=2")
needs_optuna = pytest.mark.skipif(find_spec("optuna") is None, reason="pip install -e '.[optuna]'")

CONFIG = """
defaults:
  - _self_
  - part: big
  - override hydra/sweeper: pareto
x: 0.5
n: 4
rate: 0.01
width: 8
step: 0.0
name: plain
answer: done
hydra:
  searchpath: ["file://%s/conf"]
  sweep: {dir: out}
  output_subdir: null
"""

# Records each run as the task sees it, independently of the sweeper.
APPLICATION = """
import hydra, json
from omegaconf import OmegaConf

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def task(config):
    seen = OmegaConf.to_container(config)
    x, n = config.x, config.n
    metrics = {
        "test/accuracy": 1 - (x - 0.7) ** 2 - 0.01 * n,
        "time/test_ms_p50": (x - 0.2) ** 2 + 1 / n,
        "size/compressed_bytes": 1000 * n + config.part.bytes,
    }
    with open("runs.jsonl", "a") as file:
        file.write(json.dumps(seen | {"metrics": metrics}) + "\\n")
    if config.answer == "raise":
        raise RuntimeError("out of memory")
    if config.answer == "infinite":
        metrics["test/accuracy"] = float("inf")
    status = "done" if config.answer == "infinite" else config.answer
    return {"status": status, "metrics": metrics, "name": f"cell-{n}", "run_id": f"{n:032x}"}

task()
"""


class Application:
    """An application that uses the sweeper, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "conf" / "part").mkdir(parents=True)
        (folder / "conf" / "config.yaml").write_text(CONFIG % ROOT)
        (folder / "conf" / "part" / "big.yaml").write_text("bytes: 500\n")
        (folder / "conf" / "part" / "small.yaml").write_text("bytes: 100\n")
        (folder / "app.py").write_text(APPLICATION)

    def search(self, *overrides: str, path: str = str(ROOT)) -> subprocess.CompletedProcess[str]:
        """Run a search, without the files of an earlier one."""
        for left in (self.folder / "runs.jsonl", self.folder / "out" / "pareto.json"):
            left.unlink(missing_ok=True)
        return subprocess.run(
            [sys.executable, "app.py", "-m", *overrides],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={k: v for k, v in os.environ.items() if k != "HYDRA_FULL_ERROR"} | {"PYTHONPATH": path},
            check=False,
        )

    def without(self, *libraries: str, error: str) -> str:
        """The path on which importing a library raises an error."""
        for library in libraries:
            (self.folder / f"{library}.py").write_text(f"raise {error}\n")
        return os.pathsep.join([str(self.folder), str(ROOT)])

    @property
    def runs(self) -> list[dict[str, Any]]:
        path = self.folder / "runs.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def pareto(self) -> list[dict[str, Any]]:
        points: list[dict[str, Any]] = json.loads((self.folder / "out" / "pareto.json").read_text())
        return points


@pytest.fixture
def app(tmp_path: Path) -> Application:
    return Application(tmp_path)


def not_dominated(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    metrics = np.array([[run["metrics"][name] for name in OBJECTIVES] for run in runs])
    on_front = pareto_front(metrics * [1, -1, -1])
    return [run for run, is_on in zip(runs, on_front, strict=True) if is_on]


@pytest.mark.slow
@needs_optuna
def test_the_pareto_set_is_correct_and_reproducible(app: Application) -> None:
    done = app.search(*SEARCH)
    assert done.returncode == 0, done.stderr
    assert len(app.runs) == 12
    expected = not_dominated(app.runs)
    assert 1 < len(expected) < 12
    assert {(p["params"]["x"], p["params"]["n"]) for p in app.pareto} == {(run["x"], run["n"]) for run in expected}
    first = [point["objectives"]["test/accuracy"] for point in app.pareto]
    assert first == sorted(first, reverse=True)
    best = app.pareto[0]
    assert best["objectives"] == max((run["metrics"] for run in app.runs), key=lambda metrics: metrics["test/accuracy"])
    assert (best["name"], best["run_id"]) == (f"cell-{best['params']['n']}", f"{best['params']['n']:032x}")

    shown = done.stdout[done.stdout.index("Pareto set") :].splitlines()
    assert shown[0] == f"Pareto set: {len(expected)} of 12 cells that succeeded, in 12 trials"
    assert shown[2].split() == ["trial", "x", "n", *OBJECTIVES, "name", "run"]
    assert [line.split()[0] for line in shown[3 : 3 + len(expected)]] == [str(point["trial"]) for point in app.pareto]
    assert (app.folder / "out" / "multirun.yaml").exists()
    assert "A new study created" not in done.stderr

    before = app.runs
    assert app.search(*SEARCH).returncode == 0
    assert app.runs == before, "the same seed must draw the same trials"
    assert app.search(*SEARCH, "hydra.sweeper.seed=1", "hydra.sweeper.n_trials=1").returncode == 0
    assert app.runs[0] != before[0]


@pytest.mark.slow
@needs_optuna
def test_failed_and_skipped_trials_do_not_end_the_study(app: Application) -> None:
    done = app.search("x=interval(0,1)", "answer=reused,skipped,raise,infinite", "hydra.sweeper.n_trials=10")
    assert done.returncode == 0, done.stderr
    assert {run["answer"] for run in app.runs} == {"reused", "skipped", "raise", "infinite"}
    succeeded = [run for run in app.runs if run["answer"] == "reused"]
    assert {point["params"]["x"] for point in app.pareto} == {run["x"] for run in not_dominated(succeeded)}
    assert "has no values: skipped" in done.stdout
    assert "has no values: RuntimeError: out of memory" in done.stdout
    assert "has no values: test/accuracy must be a finite number, got inf" in done.stdout


@pytest.mark.slow
@needs_optuna
def test_a_study_without_a_success_fails(app: Application) -> None:
    done = app.search("x=interval(0,1)", "answer=skipped", "hydra.sweeper.n_trials=3")
    assert done.returncode == 1
    assert "none of 3 trials succeeded" in done.stderr
    assert "Traceback" not in done.stderr
    assert app.pareto == []


@pytest.mark.slow
@needs_optuna
def test_the_task_receives_the_drawn_values(app: Application) -> None:
    # n is in the configuration and on the command line, which has precedence.
    configured = CONFIG % ROOT + "  sweeper: {params: {width: 'int(interval(2,64))', n: '5,6', x: 0.25, part: '%s'}}\n"
    (app.folder / "conf" / "config.yaml").write_text(configured % "big,small")
    drawn = ("rate=tag(log, interval(1e-4,1e-2))", "n=range(1,10,2)", "step=range(0.0,1.0,0.25)", "name='a b',c,null")
    done = app.search(*drawn, "hydra.sweeper.n_trials=8")
    assert done.returncode == 0, done.stderr
    assert len(app.runs) == 8
    assert {run["part"]["bytes"] for run in app.runs} == {100, 500}
    for run in app.runs:
        assert isinstance(run["width"], int) and 2 <= run["width"] <= 64
        assert isinstance(run["n"], int) and run["n"] in (1, 3, 5, 7, 9)
        assert run["x"] == 0.25
        assert isinstance(run["rate"], float) and 1e-4 <= run["rate"] <= 1e-2
        assert run["step"] in (0.0, 0.25, 0.5, 0.75)
        assert run["name"] in ("a b", "c", None)
    assert set(app.pareto[0]["params"]) == {"width", "n", "part", "rate", "step", "name"}


@pytest.mark.slow
@needs_optuna
def test_repeated_draw_is_reused_and_objectives_are_optional(app: Application) -> None:
    objectives = "hydra.sweeper.objectives={time/test_ms_p50: null}"
    done = app.search("n=1,2", "part=glob(*)", objectives, "hydra.sweeper.n_trials=20", "hydra.sweeper.batch_size=4")
    assert done.returncode == 0, done.stderr
    assert sorted((run["n"], run["part"]["bytes"]) for run in app.runs) == [(1, 100), (1, 500), (2, 100), (2, 500)]
    # With the time as an objective, n=2 would be in the set too.
    assert [point["params"] for point in app.pareto] == [{"n": 1, "part": "small"}]
    assert set(app.pareto[0]["objectives"]) == {"test/accuracy", "size/compressed_bytes"}


@needs_optuna
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["x=interval(0.9,0.3)"], "x=interval(0.9,0.3) cannot be drawn from: an interval must run from a lower"),
        (["x=interval(0,1)", "widht=16"], "widht"),
        (["part=big,medium"], "part/medium"),
    ],
)
def test_a_mistake_is_refused_before_anything_runs(app: Application, overrides: list[str], sentence: str) -> None:
    done = app.search(*overrides)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert app.runs == []


def test_choices_that_do_not_compose_are_not_launched() -> None:
    class Launched(ParetoSweeper):
        def validate_batch_is_legal(self, batch: Any) -> None:
            if ("part=big", "n=2") in batch:
                raise ConfigCompositionException("big has no 2")

    sweeper = Launched(n_trials=1, batch_size=1, seed=0, objectives={"a": "minimize"}, params={})
    sweeper.launcher = Mock()
    sweeper.launcher.launch.return_value = [JobReturn(status=JobStatus.COMPLETED, _return_value=None)]
    sweeper._launch([("part=big", "n=2"), ("part=big", "n=1")])
    sweeper.launcher.launch.assert_called_once_with([("part=big", "n=1")], initial_job_idx=0)
    assert sweeper.outcomes[("part=big", "n=2")] == Outcome(None, "big has no 2")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_trials": 0}, "hydra.sweeper.n_trials must be a whole number from 1 to 4294967295, got 0"),
        ({"batch_size": -1}, "hydra.sweeper.batch_size must be a whole number from 1 to 4294967295, got -1"),
        ({"n_trials": "abc"}, "hydra.sweeper.n_trials must be a whole number from 1 to 4294967295, got 'abc'"),
        ({"seed": -1}, "hydra.sweeper.seed must be a whole number from 0 to 4294967295, got -1"),
        ({"objectives": {"a": None}}, "hydra.sweeper.objectives must hold at least one metric"),
        ({"objectives": {"a": "up"}}, "hydra.sweeper.objectives.a must be maximize or minimize, got 'up'"),
    ],
)
def test_settings_are_checked_first(changes: dict[str, Any], sentence: str) -> None:
    settings: dict[str, Any] = {"n_trials": 1, "batch_size": 1, "seed": 0, "objectives": {"a": "minimize"}}
    with pytest.raises(CompactHydraException, match=re.escape(sentence)):
        ParetoSweeper(**(settings | changes), params={}).check(["x=1,2"], Mock())


@needs_optuna
def test_misspelt_objective_ends_the_search_soon(app: Application) -> None:
    done = app.search("n=range(1,20)", "+hydra.sweeper.objectives={test_accuracy: maximize}")
    assert done.returncode == 1 and len(app.runs) == MISSES
    assert "got 'test_accuracy': did you mean 'test/accuracy'?" in done.stderr


@needs_optuna
def test_a_metric_that_some_cells_lack_ends_no_search(app: Application) -> None:
    done = app.search("n=range(1,20)", "+hydra.sweeper.objectives={time/test_ms_p99: minimize}")
    assert len(app.runs) > MISSES and "did you mean" not in done.stderr


def test_missing_optuna_is_refused_with_the_command(app: Application) -> None:
    done = app.search("x=interval(0,1)", path=app.without("optuna", error="ModuleNotFoundError('optuna')"))
    assert done.returncode == 1
    assert "pip install -e '.[optuna]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_optuna_is_not_imported_by_a_start_without_it(app: Application) -> None:
    path = app.without("optuna", "numpy", "mlflow", error="SystemExit('imported')")
    done = app.search("n=1,2", "hydra/sweeper=basic", path=path)
    assert done.returncode == 0, done.stderr
    assert [run["n"] for run in app.runs] == [1, 2]


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (
            {"status": "done", "metrics": {"a": 1, "b": 2.5}, "name": "n", "run_id": "r"},
            Outcome((1, 2.5), name="n", run_id="r"),
        ),
        ({"status": "done", "metrics": {"a": 1}}, Outcome(None, "b must be a finite number, got None")),
        ({"status": "done", "metrics": {"a": 1, "b": math.nan}}, Outcome(None, "b must be a finite number, got nan")),
        ({"status": "skipped"}, Outcome(None, "skipped")),
        ({"status": "failed", "metrics": {"a": 1, "b": 2}}, Outcome(None, "failed")),
        (None, Outcome(None, "failed")),
    ],
)
def test_outcome_of_a_task(returned: object, expected: Outcome) -> None:
    result = JobReturn(status=JobStatus.COMPLETED, _return_value=returned)
    assert outcome_of(result, ["a", "b"]) == expected


def test_table() -> None:
    point = {
        "trial": 7,
        "params": {"a.b.epochs": 3, "a.c.epochs": 12, "a.b.sparsity": 0.512345, "part": "big"},
        "objectives": {"test/accuracy": 0.9123456789, "size/compressed_bytes": 1234567.0},
        "name": "cell",
        "run_id": "0123456789abcdef",
    }
    heading, row = table([point]).splitlines()
    assert heading.split() == [
        *("trial", "a.b.epochs", "a.c.epochs", "sparsity", "part"),
        *("test/accuracy", "size/compressed_bytes", "name", "run"),
    ]
    assert row.split() == ["7", "3", "12", "0.5123", "big", "0.912346", "1234567", "cell", "01234567"]
