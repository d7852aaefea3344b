"""Checks of the settings that belong to the command and not to a cell: `sweep`, `resume` and `tracking`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from pipelines.cells.compose import sentences
from pipelines.system import checks
from pipelines.tracking.credentials import VARIABLE, check_download, split

if TYPE_CHECKING:
    from omegaconf import DictConfig


@sentences()
def check_settings(config: DictConfig) -> None:
    """Raise ValueError for an impossible value of `sweep`, `resume` or `tracking`."""
    checks.flag("resume", config.resume)
    checks.one_of("sweep.isolation", config.sweep.isolation, ("process", "inline"))
    if config.sweep.timeout_s is not None:
        checks.number("sweep.timeout_s", config.sweep.timeout_s, exclusive_minimum=0)
    if config.sweep.threads is not None:
        checks.integer("sweep.threads", config.sweep.threads, minimum=1)
    if config.sweep.isolation == "inline":
        for name in ("timeout_s", "threads"):
            if config.sweep[name] is not None:
                raise ValueError(
                    f"sweep.{name} needs cells in processes of their own, got sweep.{name}={config.sweep[name]} with "
                    f"sweep.isolation=inline: leave sweep.{name} or sweep.isolation out"
                )
    checks.number("tracking.patience_s", config.tracking.patience_s, minimum=0)
    if not str(config.tracking.experiment or "").strip():
        raise ValueError(
            f"tracking.experiment must be a name, got {config.tracking.experiment!r}: set for example "
            "tracking.experiment=mine"
        )
    batch, jobs = (OmegaConf.select(config, f"hydra.{name}") for name in ("sweeper.max_batch_size", "launcher.n_jobs"))
    if batch is not None:
        checks.integer("hydra.sweeper.max_batch_size", batch, minimum=1)
    if jobs == 0:
        raise ValueError(
            "hydra.launcher.n_jobs must be a number of cells at a time, or -1 for one on each core, got 0: set for "
            "example hydra.launcher.n_jobs=2"
        )
    check_stays(config)
    check_no_password(config)


def check_stays(config: DictConfig) -> None:
    """Raise ValueError where Hydra would enter the folder of the run: paths and stores would then be others."""
    if OmegaConf.select(config, "hydra.job.chdir"):
        raise ValueError(
            "hydra.job.chdir must be false, as paths are relative to the folder of the command, got true: leave it out"
        )


def check_no_password(config: DictConfig) -> None:
    """Raise ValueError for a password in a configuration file, which Hydra copies into the files of every run.

    A password on the command line is in the environment by now.
    """
    check_download("dataset.url", str(OmegaConf.select(config, "dataset.url") or ""))
    address = split(str(OmegaConf.select(config, "tracking.uri") or ""))
    if address.user is not None or address.password is not None:
        raise ValueError(
            f"tracking.uri must hold no user and no password in a file, got one in {address.bare!r}: take it out, and "
            f"`export {VARIABLE}=` the whole address instead"
        )
