"""Multi-objective search with Optuna: `-m hydra/sweeper=pareto 'technique.sparsity=interval(0.3,0.9)'`.

Hydra finds sweepers only in the namespace `hydra_plugins`, and imports its modules at each start: Optuna is imported
when a search begins.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hydra_plugins._pareto_space import Job, Space, space_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

SUCCEEDED = ("done", "reused")
# So many cells without an objective, and none with it, show that its name is misspelt.
MISSES = 3


# A NamedTuple: Hydra executes this module before it is in sys.modules, where a dataclass would look for it.
class Outcome(NamedTuple):
    """The result of a job. values: of the objectives, in order; None if it failed or was skipped. why: the reason."""

    values: tuple[float, ...] | None
    why: str = ""
    name: str = ""
    run_id: str = ""


class ParetoSweeper(Sweeper):
    """Draws trials with multi-objective TPE, runs them and reports their Pareto set.

    The task returns {"status": "done" | "reused" | "skipped" | "failed", "metrics": {...}, "name": ..., "run_id": ...}
    or None, which counts as failed. A failed or skipped trial does not end the study. NSGA-II, the other sampler for
    several objectives, would draw its whole first population of 50 at random.
    Source: Ozaki et al. 2022, doi:10.1613/jair.1.13188.
    """

    def __init__(
        self,
        n_trials: int,
        batch_size: int,
        seed: int,
        objectives: Mapping[str, str | None],
        params: Mapping[str, Any] | None,
    ) -> None:
        self.n_trials = n_trials
        self.batch_size = batch_size
        self.seed = seed
        self.objectives = {metric: direction for metric, direction in objectives.items() if direction is not None}
        self.params = dict(params or {})
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.outcomes: dict[Job, Outcome] = {}
        self.launched = 0
        self.misses: dict[str, float] = {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Create the launcher."""
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the study, print its Pareto set and write it to pareto.json in the sweep's folder.

        Raises CompactHydraException, which Hydra prints as a sentence, if nothing can be drawn or no trial succeeds.
        """
        assert self.config is not None and self.hydra_context is not None
        space = self.check(arguments, self.hydra_context.config_loader)
        optuna = _optuna()
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        self.validate_batch_is_legal(space.samples())

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=self.seed)
        study = optuna.create_study(directions=list(self.objectives.values()), sampler=sampler)
        for begin in range(0, self.n_trials, self.batch_size):
            self._run_batch(study, space, min(self.batch_size, self.n_trials - begin))
            # A search that is broken off leaves what it has found.
            points = self._pareto_set(study, space)
            (folder / "pareto.json").write_text(json.dumps(points, indent=2) + "\n")
        if not points:
            raise CompactHydraException(f"none of {self.n_trials} trials succeeded: see their messages above")
        succeeded = sum(outcome.values is not None for outcome in self.outcomes.values())
        print(f"\nPareto set: {len(points)} of {succeeded} cells that succeeded, in {self.n_trials} trials\n")
        print(f"{table(points)}\n\nfile    {folder / 'pareto.json'}\n", flush=True)

    def check(self, arguments: Sequence[str], loader: ConfigLoader) -> Space:
        """The search space of the overrides. Raises CompactHydraException for a setting or a range without meaning."""
        for name, minimum in (("n_trials", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value < 2**32:
                raise CompactHydraException(
                    f"hydra.sweeper.{name} must be a whole number from {minimum} to {2**32 - 1}, got {value!r}: set "
                    f"for example hydra.sweeper.{name}={minimum}"
                )
        if not self.objectives:
            raise CompactHydraException("hydra.sweeper.objectives must hold at least one metric")
        for metric, direction in self.objectives.items():
            if direction not in ("maximize", "minimize"):
                raise CompactHydraException(
                    f"hydra.sweeper.objectives.{metric} must be maximize or minimize, got {direction!r}"
                )
        _optuna()
        # Imported here, as Hydra imports this module at each start.
        from pipelines.execution.overrides import assignment

        configured = [assignment(key, value) for key, value in self.params.items()]
        return space_of([*configured, *arguments], loader)

    def _run_batch(self, study: Study, space: Space, size: int) -> None:
        from optuna.trial import TrialState

        trials = [study.ask(space.distributions) for _ in range(size)]
        jobs = [space.job(trial.params) for trial in trials]
        # A job that was drawn before has the same outcome and is not run again.
        self._launch([job for job in dict.fromkeys(jobs) if job not in self.outcomes])
        for trial, job in zip(trials, jobs, strict=True):
            outcome = self.outcomes[job]
            if outcome.values is None:
                # The sampler ignores failed trials.
                log.warning("trial %d has no values: %s", trial.number, outcome.why)
                study.tell(trial, state=TrialState.FAIL)
            else:
                values = ", ".join(f"{m} {v:.6g}" for m, v in zip(self.objectives, outcome.values, strict=True))
                log.info("trial %d: %s", trial.number, values)
                study.tell(trial, outcome.values)

    def _launch(self, jobs: Sequence[Job]) -> None:
        assert self.launcher is not None
        composed = []
        for job in jobs:
            try:
                self.validate_batch_is_legal([job])
            except CompactHydraException as error:
                # Each choice composes, as was checked at the start, but not this combination.
                self.outcomes[job] = Outcome(None, str(error))
            else:
                composed.append(job)
        if not composed:
            return
        results = self.launcher.launch(composed, initial_job_idx=self.launched)
        self.launched += len(composed)
        for job, result in zip(composed, results, strict=True):
            self.outcomes[job] = outcome_of(result, list(self.objectives))
            self._check_objectives(result)

    def _check_objectives(self, result: JobReturn) -> None:
        """Raise CompactHydraException where MISSES cells lack an objective that is nearly the name of a metric.

        Not one that only some cells have: slow networks have no 99th percentile.
        """
        from pipelines.results.metrics import OF_SOME_CELLS

        returned = result.return_value if result.status == JobStatus.COMPLETED else None
        metrics = (returned.get("metrics") if isinstance(returned, Mapping) else None) or {}
        for objective in self.objectives if metrics else ():
            self.misses[objective] = -math.inf if objective in metrics else self.misses.get(objective, 0) + 1
            meant = get_close_matches(objective, metrics, n=1, cutoff=0.8)
            if meant and objective not in OF_SOME_CELLS and self.misses[objective] >= MISSES:
                raise CompactHydraException(
                    f"hydra.sweeper.objectives must be metrics of a cell, got {objective!r}: did you mean {meant[0]!r}?"
                )

    def _pareto_set(self, study: Study, space: Space) -> list[dict[str, Any]]:
        """The points of the Pareto set, the best by the first objective first."""
        first: dict[Job, FrozenTrial] = {}
        for trial in sorted(study.best_trials, key=lambda trial: trial.number):
            first.setdefault(space.job(trial.params), trial)
        points = [
            {
                "trial": trial.number,
                "params": space.values(trial.params),
                "objectives": dict(zip(self.objectives, trial.values, strict=True)),
                "name": self.outcomes[job].name,
                "run_id": self.outcomes[job].run_id,
            }
            for job, trial in first.items()
        ]
        leading, direction = next(iter(self.objectives.items()))
        return sorted(points, key=lambda point: point["objectives"][leading], reverse=direction == "maximize")


def outcome_of(result: JobReturn, objectives: Sequence[str]) -> Outcome:
    """The outcome of a task from what it returned or raised."""
    try:
        returned = result.return_value
    except Exception as error:  # noqa: BLE001 (whatever a task raises, the study goes on)
        return Outcome(None, f"{type(error).__name__}: {error}")
    report: Mapping[str, Any] = returned if isinstance(returned, Mapping) else {}
    if report.get("status") not in SUCCEEDED:
        return Outcome(None, report.get("status", "failed"))
    metrics = report.get("metrics") or {}
    values: list[float] = []
    for metric in objectives:
        value = metrics.get(metric)
        if not isinstance(value, int | float) or not math.isfinite(value):
            return Outcome(None, f"{metric} must be a finite number, got {value!r}")
        values.append(value)
    # Name and run are only shown in the table, so they may be absent.
    return Outcome(tuple(values), name=report.get("name") or "", run_id=report.get("run_id") or "")


def table(points: Sequence[Mapping[str, Any]]) -> str:
    """A Pareto set as an aligned text table. points: as in pareto.json, at least one.

    An override is named by its last part unless another has the same last part.
    """
    from pipelines.results.tables import aligned

    last = [key.rpartition(".")[2] for key in points[0]["params"]]
    knobs = [short if last.count(short) == 1 else key for short, key in zip(last, points[0]["params"], strict=True)]
    rows = [["trial", *knobs, *points[0]["objectives"], "name", "run"]]
    for point in points:
        drawn = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in point["params"].values()]
        reached = [f"{v:.0f}" if v.is_integer() else f"{v:.6g}" for v in map(float, point["objectives"].values())]
        rows.append([str(point["trial"]), *drawn, *reached, point["name"], point["run_id"][:8]])
    return aligned(rows)


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise CompactHydraException("hydra/sweeper=pareto needs Optuna: pip install -e '.[optuna]'") from error
    return optuna
