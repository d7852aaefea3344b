"""Multi-objective search with Optuna: `-m hydra/sweeper=pareto 'technique.sparsity=interval(0.3,0.9)'`.

Hydra accepts sweepers from the namespace `hydra_plugins` only, and imports every module in it at each start: Optuna is
imported where a search begins.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Sweep, Transformer
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException, ConfigCompositionException, HydraException
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

Job = tuple[str, ...]  # the overrides of one trial
SUCCEEDED = ("done", "reused")
ALLOWED = (
    "a,b; choice(a,b); range(1,10,2); interval(0.3,0.9); int(interval(2,64)); tag(log, interval(1e-4,1e-2)); "
    "or one plain value"
)


# NamedTuples here: Hydra executes this module before it is in sys.modules, where dataclasses look for it.
class Knob(NamedTuple):
    """What is drawn for one override. values: those that a drawn index stands for; none: the drawn number itself."""

    distribution: BaseDistribution
    values: tuple[Any, ...] = ()

    def value(self, drawn: Any) -> Any:
        """The drawn value as Hydra's grammar has it."""
        return self.values[drawn] if self.values else drawn


class Space(NamedTuple):
    """What the trials have in common, in the order given: knobs, and whole overrides, which are the same in all."""

    parts: dict[str, Knob | str]

    @property
    def knobs(self) -> dict[str, Knob]:
        """What differs from trial to trial, by override."""
        return {key: part for key, part in self.parts.items() if isinstance(part, Knob)}

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """For `study.ask`."""
        return {key: knob.distribution for key, knob in self.knobs.items()}

    def job(self, drawn: Mapping[str, Any]) -> Job:
        """The overrides of a trial."""
        return tuple(
            part if isinstance(part, str) else f"{key}={Transformer.str(part.value(drawn[key]))}"
            for key, part in self.parts.items()
        )

    def values(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The drawn values: numbers and truth values as they are, all else as it would stand on a command line."""
        return {key: Transformer.encode(knob.value(drawn[key])) for key, knob in self.knobs.items()}

    def samples(self) -> list[Job]:
        """Jobs in which every choice occurs: what does not compose at all is among them."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        def at(index: int, distribution: BaseDistribution) -> Any:
            if isinstance(distribution, CategoricalDistribution):
                return index % len(distribution.choices)
            assert isinstance(distribution, IntDistribution | FloatDistribution)
            return distribution.low

        choices = [d for d in self.distributions.values() if isinstance(d, CategoricalDistribution)]
        count = max((len(choice.choices) for choice in choices), default=1)
        return [self.job({key: at(i, d) for key, d in self.distributions.items()}) for i in range(count)]


class Outcome(NamedTuple):
    """What a job came to. values: of the objectives, in order; None: it failed or was skipped, `why` says so."""

    values: tuple[float, ...] | None
    why: str = ""
    name: str = ""
    run_id: str = ""


class ParetoSweeper(Sweeper):
    """Draws trials with multi-objective TPE, runs them, and tells which of them no other dominates.

    The task returns {"status": "done" | "reused" | "skipped" | "failed", "metrics": {...}, "name": ..., "run_id": ...}
    or None, which counts as failed. What fails or is skipped does not end the study. The other sampler for several
    objectives, NSGA-II, would draw its whole first population of 50 at random.
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

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over and make its launcher."""
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the study, print its Pareto set and write it to pareto.json in the sweep's folder.

        Raises CompactHydraException, which Hydra shows as a sentence, where nothing can be drawn or no trial succeeds.
        """
        self._check()
        assert self.config is not None and self.hydra_context is not None
        optuna = _optuna()
        space = space_of([*_lines(self.params), *arguments], self.hydra_context.config_loader)
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        self.validate_batch_is_legal(space.samples())

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=self.seed)
        study = optuna.create_study(directions=list(self.objectives.values()), sampler=sampler)
        for begin in range(0, self.n_trials, self.batch_size):
            self._run_batch(study, space, min(self.batch_size, self.n_trials - begin))

        points = self._pareto_set(study, space)
        (folder / "pareto.json").write_text(json.dumps(points, indent=2) + "\n")
        if not points:
            raise CompactHydraException(f"none of {self.n_trials} trials succeeded: see their messages above")
        succeeded = sum(outcome.values is not None for outcome in self.outcomes.values())
        print(f"\nPareto set: {len(points)} of {succeeded} cells that succeeded, in {self.n_trials} trials\n")
        print(f"{table(points)}\n\nfile    {folder / 'pareto.json'}\n", flush=True)

    def _check(self) -> None:
        for name in ("n_trials", "batch_size"):
            if getattr(self, name) < 1:
                raise CompactHydraException(f"hydra.sweeper.{name} must be at least 1, got {getattr(self, name)}")
        if not self.objectives:
            raise CompactHydraException("hydra.sweeper.objectives must hold at least one metric")
        for metric, direction in self.objectives.items():
            if direction not in ("maximize", "minimize"):
                raise CompactHydraException(
                    f"hydra.sweeper.objectives.{metric} must be maximize or minimize, got {direction!r}"
                )

    def _run_batch(self, study: Study, space: Space, size: int) -> None:
        from optuna.trial import TrialState

        trials = [study.ask(space.distributions) for _ in range(size)]
        jobs = [space.job(trial.params) for trial in trials]
        # Drawn again is not run again: a cell's outcome is the same.
        self._launch([job for job in dict.fromkeys(jobs) if job not in self.outcomes])
        for trial, job in zip(trials, jobs, strict=True):
            outcome = self.outcomes[job]
            if outcome.values is None:
                # Samplers pass over these, as if they had not been drawn: nothing is learnt from a crash.
                log.warning("trial %d has no values: %s", trial.number, outcome.why)
                study.tell(trial, state=TrialState.FAIL)
            else:
                told = ", ".join(f"{m} {v:.6g}" for m, v in zip(self.objectives, outcome.values, strict=True))
                log.info("trial %d: %s", trial.number, told)
                study.tell(trial, outcome.values)

    def _launch(self, jobs: Sequence[Job]) -> None:
        assert self.launcher is not None
        composed = []
        for job in jobs:
            try:
                self.validate_batch_is_legal([job])
            except CompactHydraException as error:
                # Each choice composes, as was seen at the start, but not these together.
                self.outcomes[job] = Outcome(None, str(error))
            else:
                composed.append(job)
        if not composed:
            return
        results = self.launcher.launch(composed, initial_job_idx=self.launched)
        self.launched += len(composed)
        for job, result in zip(composed, results, strict=True):
            self.outcomes[job] = outcome_of(result, list(self.objectives))

    def _pareto_set(self, study: Study, space: Space) -> list[dict[str, Any]]:
        """The points that no other dominates, by the first objective, the best first."""
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


def space_of(lines: Sequence[str], loader: ConfigLoader | None = None) -> Space:
    """What a search draws from. Of two overrides with one key, the later counts.

    Raises ConfigCompositionException with one sentence for what cannot be drawn, and where all is fixed.
    """
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(list(lines))
    space = Space({override.get_key_element(): _part(override) for override in overrides})
    if not space.knobs:
        raise ConfigCompositionException(f"nothing is to be drawn: give at least one override such as {ALLOWED}")
    return space


def outcome_of(result: JobReturn, objectives: Sequence[str]) -> Outcome:
    """Read what a task returned, or raised."""
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
    # What only the table shows may be absent: that is no reason to lose a study at its end.
    return Outcome(tuple(values), name=report.get("name") or "", run_id=report.get("run_id") or "")


def table(points: Sequence[Mapping[str, Any]]) -> str:
    """A Pareto set as an aligned text table. points: as in pareto.json, at least one.

    An override is shown by its last part where no other ends in the same.
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


def _lines(params: Mapping[str, Any]) -> list[str]:
    return [f"{key}={'null' if value is None else value}" for key, value in params.items()]


def _part(override: Override) -> Knob | str:
    if not override.is_sweep_override():
        assert override.input_line is not None
        return override.input_line
    try:
        return _knob(override)
    except (ValueError, HydraException) as error:
        raise ConfigCompositionException(
            f"{override.input_line} cannot be drawn from: {error}; allowed are {ALLOWED}"
        ) from error


def _knob(override: Override) -> Knob:
    """Raises ValueError or HydraException for what holds no value, is upside down, or is tagged in vain."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    if isinstance(sweep, IntervalSweep):
        low, high, logarithmic = sweep.start, sweep.end, "log" in tags
        assert low is not None and high is not None
        if tags - {"log"}:
            raise ValueError("an interval has no other tag than log")
        if not -math.inf < low <= high < math.inf:
            raise ValueError(f"an interval must run from a lower to a higher number, got {low} to {high}")
        if logarithmic and low <= 0:
            raise ValueError(f"a logarithmic interval must begin above 0, got {low}")
        # The grammar's int(interval(...)) holds whole numbers; all other intervals hold floats.
        if isinstance(low, int) and isinstance(high, int):
            return Knob(IntDistribution(low, high, log=logarithmic))
        return Knob(FloatDistribution(low, high, log=logarithmic))
    if tags:
        raise ValueError("only an interval has a tag")
    # By their texts, as the same choice twice would count twice.
    values = tuple({Transformer.str(value): value for value in _listed(override)}.values())
    if not values:
        raise ValueError("it holds no value")
    if isinstance(sweep, RangeSweep):
        return Knob(IntDistribution(0, len(values) - 1), values)
    return Knob(CategoricalDistribution(range(len(values))), values)


def _listed(override: Override) -> list[Any]:
    """The values that a grid would run, but not shuffled, as the order would differ from start to start."""
    sweep = override.value()
    if isinstance(sweep, ChoiceSweep):
        return sweep.list
    if isinstance(sweep, RangeSweep):
        return list(sweep.range())
    return list(override.sweep_iterator())


def _optuna() -> ModuleType:
    try:
        import optuna
    except ImportError as error:
        raise CompactHydraException("hydra/sweeper=pareto needs Optuna: pip install -e '.[optuna]'") from error
    return optuna
