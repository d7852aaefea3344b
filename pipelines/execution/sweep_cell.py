"""One cell of a sweep, run in a subprocess wherever Hydra's launcher puts it.

Its outcome goes into its job's folder and onto the sweep's run.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pipelines.cells.compose import cell_of
from pipelines.execution.cell_main import run_inline
from pipelines.execution.cell_process import failed, run_in_subprocess
from pipelines.execution.request import CellRequest, SweepContext
from pipelines.results.outcome import Outcome
from pipelines.system import machine, stopwatch

if TYPE_CHECKING:
    from pipelines.tracking.store import Store

log = logging.getLogger("opscore")

# In a job's folder.
JOB_OUTCOME = "outcome.json"


def run_cell(config: DictConfig, context: SweepContext) -> dict[str, Any]:
    """Run one cell; gives `status`, `name`, `run_id` and `metrics` of its outcome, for sweepers.

    Never raises, because a launcher would then stop the other cells.
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
    try:
        outcome.save(folder / JOB_OUTCOME)
    except OSError as error:
        log.warning("cell %d has no outcome in its folder: %s", outcome.number, error)
    try:
        from pipelines.tracking.sweep_run import post

        post(_store(context), context.sweep_id, outcome)
    except Exception as error:  # noqa: BLE001 (the store may not answer, and the folder has the outcome too)
        log.warning("cell %d is not in the sweep's run: %s", outcome.number, error)
    return {"status": outcome.status, "name": outcome.name, "run_id": outcome.run_id, "metrics": outcome.metrics}


def _outcome(config: DictConfig, folder: Path, context: SweepContext) -> Outcome:
    from pipelines.cells.cell import IncompatibleError

    try:
        cell = cell_of(config)
    except IncompatibleError as error:
        # A grid may hold pairs that do not go together: skipping them is no failure.
        return replace(failed(str(error)), status="skipped")
    except ValueError as error:
        return failed(str(error))
    request = CellRequest(cell=cell, patience_s=config.tracking.patience_s, **vars(context))
    if config.sweep.isolation == "inline":
        with stopwatch.cell():
            return run_inline(request, folder)
    request = replace(request, timeout_s=config.sweep.timeout_s, began=time.monotonic())
    return run_in_subprocess(request, folder, environment=_environment(config), to_log=True)


def _environment(config: DictConfig) -> dict[str, str | None]:
    hydra = HydraConfig.get()
    threads = config.sweep.threads or _share_of_cores(hydra.launcher)
    # joblib limits its workers' OpenMP threads. TensorFlow does not use OpenMP, and the child must not inherit it.
    environment: dict[str, str | None] = {"OMP_NUM_THREADS": None}
    if threads:
        environment["TF_NUM_INTRAOP_THREADS"] = str(threads)
    # joblib's jobs take the cards in turn. Ray and Slurm grant a job its own, which its process inherits.
    cards = machine.nvidia_cards()
    if hydra.launcher.get("n_jobs", 1) != 1 and len(cards) > 1:
        environment[machine.CARDS] = cards[hydra.job.num % len(cards)]
    return environment


def _share_of_cores(launcher: DictConfig) -> int | None:
    """Cores for each of the jobs that joblib or Ray runs in parallel; None where the launcher does not say."""
    if "ray" in launcher:
        # Ray also takes a part of a core.
        cpus: float | None = launcher.ray.remote.get("num_cpus")
        return None if cpus is None else max(1, int(cpus))
    jobs: int | None = launcher.get("n_jobs")
    if jobs is None:
        return None
    cores = machine.cores()
    parallel = jobs if jobs > 0 else max(1, cores + 1 + jobs)
    return max(1, cores // parallel)


@cache
def _store(context: SweepContext) -> Store:
    from pipelines.tracking.store import Store

    return Store(context.uri, context.experiment, of_run=context.sweep_id)
