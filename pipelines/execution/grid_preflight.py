"""Refuses a grid of which no cell can run, before the sweep is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from pipelines.cells.compose import cell_of

if TYPE_CHECKING:
    from omegaconf import DictConfig


def check_one_can_run(cells: Iterable[Sequence[str]]) -> None:
    """Raise ValueError where no cell can run, with each reason and its number of cells. Stops at the first that can.

    cells: the overrides of each. Pairs of technique and model that do not go together do not count, as a sweep skips
    them.
    """
    reasons: Counter[str] = Counter()
    for overrides in cells:
        config = GlobalHydra.instance().config_loader().load_configuration("config", list(overrides), RunMode.RUN)
        # Hydra sets it only for a job, and resolves values of `hydra` through it.
        HydraConfig.instance().set_config(config)
        reason = _reason(config)
        if reason is None:
            return
        reasons[reason] += 1
    reasons.pop("", None)
    if not reasons:
        return
    total = sum(reasons.values())
    if len(reasons) == 1:
        only = next(iter(reasons))
        raise ValueError(f"none of the {total} cells can run: {only}" if total > 1 else only)
    listed = "".join(f"\n  {_cells(count)}: {reason}" for reason, count in reasons.most_common())
    raise ValueError(f"none of the {_cells(total)} can run:{listed}")


def _reason(config: DictConfig) -> str | None:
    """Why a cell cannot run; None where it can, empty where it is skipped."""
    from pipelines.cells.cell import IncompatibleError
    from pipelines.execution.preflight import preflight

    try:
        preflight(cell_of(config))
    except IncompatibleError:
        return ""
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"
