"""A grid of cells: one parent run, a process for each cell, progress, the summary, and what failed.

Hydra's launchers run `run_cell` wherever they like. It leaves an `Outcome` in its job's folder and on the parent run;
the process that holds the sweep reads both, so one machine, a cluster with a shared disk and one without are alike.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pipelines.cells.compose import cell_of
from pipelines.execution import folders, grid, grid_preflight
from pipelines.execution.cell_main import run_inline
from pipelines.execution.cell_process import failed, leave, run_in_subprocess
from pipelines.execution.request import CellRequest, SweepContext
from pipelines.execution.sweep_table import duration, spent_line, table, uninformed_lines
from pipelines.results.columns import GAIN, SCORE
from pipelines.results.outcome import Outcome
from pipelines.system import checks, guard, stopwatch
from pipelines.system.stopwatch import PARTS
from pipelines.tracking.credentials import VARIABLE, split

if TYPE_CHECKING:
    from pipelines.tracking.store import Store
    from pipelines.tracking.sweep_run import SweepRun

log = logging.getLogger("opscore")

# In a job's folder.
OUTCOME = "outcome.json"
# How often the job folders, and the parent run, are looked at for news.
LOOK_S, LOOK_AT_STORE_S = 0.5, 15.0
# After so long without news the terminal says that the sweep is still at work.
STILL_AT_WORK_S = 60.0


@dataclass
class Session:
    """What Hydra's callback and the command share: Hydra makes the callback itself, so that they need a common place.

    adopted: the run that `mlflow run` opened, for the sweep to take. sweep: open from the first job on. context: what
    the sweep's cells must know; a launcher that sends the command's function to another process sends it along.
    """

    adopted: str | None = None
    sweep: Sweep | None = None
    context: SweepContext | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A sweep stays in the process that holds it."""
        return {"adopted": None, "sweep": None, "context": self.context}


# A process starts one sweep.
SESSION = Session()


class NoSweepError(BaseException):
    """No sweep could be begun, for the reason in `args`."""


class SweepCallback(Callback):
    """Hydra's callback, called in the process that holds the sweep before the first job."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 (Hydra's signature)
        """Ends the process with a sentence before Hydra writes a password into its files."""
        try:
            check_no_password(config)
        except ValueError as error:
            print(f"opscore: {error}", file=sys.stderr)
            sys.exit(guard.MISUSE)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002 (Hydra's signature)
        """Check what can be checked and open the parent run. Raises NoSweepError where that fails."""
        try:
            SESSION.sweep = Sweep.begin(config, adopted=SESSION.adopted)
        except Exception as error:
            # Hydra would warn, and start the jobs without their sweep; what ends a process goes through.
            raise NoSweepError(error) from error
        SESSION.context = SESSION.sweep.context


class Sweep:
    """A sweep as the process that started it sees it: watches the outcomes, and tells and records them."""

    def __init__(self, context: SweepContext, run: SweepRun, folder: Path, total: int, *, search: bool) -> None:
        self.context = context
        self._search = search
        self._run = run
        self._folder = folder
        self._total = total
        self._outcomes: dict[int, Outcome] = {}
        self._began = self._news = self._looked_at_store = time.monotonic()
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="sweep", daemon=True)
        self._watcher.start()

    @classmethod
    def begin(cls, config: DictConfig, *, adopted: str | None) -> Sweep:
        """Open the parent run, or adopt the one that `mlflow run` opened. Raises ValueError, OSError or StoreError."""
        from pipelines.tracking.address import tracking_uri
        from pipelines.tracking.artifacts import check_usable

        check_settings(config)
        grid.check_studies(config)
        grid.check_composes(config)
        total = grid.number_of_cells(config)
        uri = tracking_uri(config.tracking.uri)
        check_usable(uri)
        if not grid.is_search(config):
            grid_preflight.check_one_can_run(grid.cells(config))
        folder = Path(config.hydra.sweep.dir)
        folders.claim(folder, "hydra.sweep.dir")

        from pipelines.tracking.store import Store
        from pipelines.tracking.sweep_run import SweepRun

        store = Store(uri, config.tracking.experiment, beside=adopted)
        store.check_artifacts()
        closed = store.close_dead()
        if closed:
            print(f"{closed} runs that dead processes had left open are closed as KILLED")
        for stale in folder.glob(f"*/{OUTCOME}"):
            stale.unlink()
        run = SweepRun.open(
            store,
            name=f"{config.hydra.runtime.choices.get('experiment') or 'sweep'} of {total} cells",
            overrides=grid.lines(config),
            config=OmegaConf.to_yaml(config),
            run_id=adopted,
        )
        since = 0 if config.resume else store.started(run.run_id)
        print(f"{total} cells, in {folder}\nrun     {run.link}\n", flush=True)
        context = SweepContext(sweep_id=run.run_id, uri=uri, experiment=store.experiment, since=since)
        return cls(context, run, folder, total, search=grid.is_search(config))

    def finish(self, error: BaseException | None) -> int:
        """Tell and record what came out; gives the exit status. error: what broke the sweep off, if anything did."""
        self._stop.set()
        self._watcher.join()
        self._look(at_store=True)
        outcomes = [self._outcomes[number] for number in sorted(self._outcomes)]
        failed = sum(outcome.status == "failed" for outcome in outcomes)
        # Of the cells that a search draws, those that were drawn before are not run again.
        missing = 0 if self._search and error is None else max(0, self._total - len(outcomes))
        problem = ", ".join(
            f"{count} of {self._total} cells {what}"
            for count, what in ((failed, "failed"), (missing, "did not run"))
            if count
        )
        interrupted = guard.is_interrupt(error)
        spent = {part: sum(one.spent.get(part, 0.0) for one in outcomes) for part in PARTS}
        parts = [table(outcomes), *uninformed_lines(outcomes), spent_line(spent)] if outcomes else ["no cell has run"]
        summary = "\n".join(parts).strip()
        print(f"\n{summary}\n")
        self._run.close(
            outcomes,
            summary=summary,
            files=list(self._folder.glob("pareto.json")),
            report=self._report(outcomes),
            seconds=time.monotonic() - self._began,
            spent=spent,
            status="KILLED" if interrupted else "FAILED" if problem or error else "FINISHED",
            problem=problem,
        )
        report = self._folder / "report" / "report.html"
        if report.exists():
            print(f"report  {report}")
        print(f"run     {self._run.link}\nlist    {self._run.list_link}", flush=True)
        if problem:
            print(f"opscore: {problem}; the same command again runs only these", file=sys.stderr)
        return guard.INTERRUPTED if interrupted else guard.FAILURE if problem or error else 0

    def _report(self, outcomes: Sequence[Outcome]) -> Path | None:
        """The folder of the report on the sweep's cells; None where there is nothing to report, or it fails."""
        runs = {outcome.run_id for outcome in outcomes if outcome.metrics}
        if not runs:
            return None
        try:
            from pipelines.report.page import write

            cells = self._run.cells(runs)
            return write(cells, self._folder / "report", chosen="of this sweep")[0].parent if cells else None
        except Exception as error:  # noqa: BLE001 (the cells and the summary matter more)
            log.warning("the report could not be made: %s", error)
            return None

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            now = time.monotonic()
            at_store = now - self._looked_at_store > LOOK_AT_STORE_S
            if at_store:
                self._looked_at_store = now
            self._look(at_store=at_store)
            if now - self._news > STILL_AT_WORK_S:
                self._news = now
                print(f"{len(self._outcomes)} of {self._total} cells after {duration(now - self._began)}", flush=True)

    def _look(self, *, at_store: bool) -> None:
        found = [Outcome.parse(path.read_text()) for path in self._unread()]
        if at_store and len(self._outcomes) + len(found) < self._total:
            found.extend(self._run.outcomes(known=self._outcomes.keys()))
        for outcome in found:
            if outcome.number not in self._outcomes:
                self._outcomes[outcome.number] = outcome
                self._news = time.monotonic()
                print(self._line(outcome), flush=True)
        if found:
            self._run.count(Counter(outcome.status for outcome in self._outcomes.values()), self._total)

    def _unread(self) -> list[Path]:
        # A job's folder has its number for a name (hydra.sweep.subdir in conf/config.yaml).
        return [
            path
            for path in sorted(self._folder.glob(f"*/{OUTCOME}"))
            if not (path.parent.name.isdigit() and int(path.parent.name) in self._outcomes)
        ]

    def _line(self, outcome: Outcome) -> str:
        said = [
            f"[{len(self._outcomes):{len(str(self._total))}d}/{self._total}]",
            f"{outcome.status:7}",
            outcome.name,
        ]
        if outcome.metrics:
            said.append(f"{SCORE.text(outcome.metrics[SCORE.metric])} dB")
        if GAIN.metric in outcome.metrics:
            said.append(f"({GAIN.text(outcome.metrics[GAIN.metric])})")
        said.append(duration(outcome.seconds))
        # Cells that were computed took their time; those that were found or skipped took none.
        computed = sum(one.status in ("done", "failed") for one in self._outcomes.values())
        left = self._total - len(self._outcomes)
        if computed and left:
            said.append(f"about {duration((time.monotonic() - self._began) / computed * left)} left")
        return "  ".join(said) + (f"\n    {outcome.message}" if outcome.message else "")


def check_settings(config: DictConfig) -> None:
    """Raise ValueError for a value of `sweep`, `resume` or `tracking` that cannot be."""
    checks.flag("resume", config.resume)
    checks.one_of("sweep.isolation", config.sweep.isolation, ("process", "inline"))
    if config.sweep.timeout_s is not None:
        checks.number("sweep.timeout_s", config.sweep.timeout_s, exclusive_minimum=0)
    if config.sweep.threads is not None:
        checks.integer("sweep.threads", config.sweep.threads, minimum=1)
    checks.number("tracking.patience_s", config.tracking.patience_s, minimum=0)
    check_no_password(config)


def check_no_password(config: DictConfig) -> None:
    """Raise ValueError for a password in a configuration file, which Hydra copies into the files of every run.

    One on the command line is in the environment by now.
    """
    given = str(config.tracking.uri or "")
    if split(given).password is not None:
        raise ValueError(
            f"tracking.uri must hold no password in a file, got one in {split(given).bare!r}: take it out, and `export "
            f"{VARIABLE}=` the whole address instead"
        )


def run_cell(config: DictConfig, context: SweepContext) -> dict[str, Any]:
    """Run one cell of a sweep where the launcher put it. Never raises: a launcher would stop the others.

    Gives `status`, `name`, `run_id` and `metrics` of its outcome, for sweepers.
    """
    began = time.monotonic()
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    try:
        outcome = _outcome(config, folder, context)
    except Exception as error:
        log.exception("the cell's own process could not be run")
        outcome = failed(f"{type(error).__name__}: {error}")
    outcome = replace(
        outcome,
        name=outcome.name or "-".join(job.runtime.choices[group] for group in ("model", "dataset", "technique")),
        number=int(job.job.num),
        overrides=tuple(job.overrides.task),
        seconds=time.monotonic() - began,
    )
    leave(outcome, folder / OUTCOME)
    try:
        from pipelines.tracking.sweep_run import post

        post(_store(context), context.sweep_id, outcome)
    except Exception as error:  # noqa: BLE001 (a store that is away: the folder has it as well)
        log.warning("cell %d is not in the sweep's run: %s", outcome.number, error)
    return {"status": outcome.status, "name": outcome.name, "run_id": outcome.run_id, "metrics": outcome.metrics}


def _outcome(config: DictConfig, folder: Path, context: SweepContext) -> Outcome:
    from pipelines.cells.cell import IncompatibleError

    try:
        cell = cell_of(config)
    except IncompatibleError as error:
        # A grid holds pairs that do not go together: they are left out and are no failure.
        return replace(failed(str(error)), status="skipped")
    except ValueError as error:
        return failed(str(error))
    request = CellRequest(cell=cell, patience_s=config.tracking.patience_s, **vars(context))
    if config.sweep.isolation == "inline":
        with stopwatch.cell():
            return run_inline(request, folder)
    environment = _environment(config)
    return run_in_subprocess(request, folder, timeout_s=config.sweep.timeout_s, environment=environment, to_log=True)


def _environment(config: DictConfig) -> dict[str, str | None]:
    threads = config.sweep.threads or _share_of_cores(HydraConfig.get().launcher)
    # joblib limits its workers' OpenMP, which TensorFlow does not use, and which the child shall not inherit.
    return {"OMP_NUM_THREADS": None} | ({"TF_NUM_INTRAOP_THREADS": str(threads)} if threads else {})


def _share_of_cores(launcher: DictConfig) -> int | None:
    """Cores for each of the jobs that joblib runs side by side or Ray places; None where the launcher does not say."""
    if "ray" in launcher:
        cpus: int | None = launcher.ray.remote.get("num_cpus")
        return cpus
    jobs: int | None = launcher.get("n_jobs")
    if jobs is None:
        return None
    cores = os.cpu_count() or 1
    side_by_side = jobs if jobs > 0 else max(1, cores + 1 + jobs)
    return max(1, cores // side_by_side)


@cache
def _store(context: SweepContext) -> Store:
    from pipelines.tracking.store import Store

    return Store(context.uri, context.experiment, beside=context.sweep_id)
