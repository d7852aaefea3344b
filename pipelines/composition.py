"""From a composed Hydra configuration to a checked cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from pipelines.tracking.address import CHECKOUT, PACKAGE

# What a cell needs is imported where it is made: `--help` and `--cfg` answer without NumPy.
if TYPE_CHECKING:
    from omegaconf import DictConfig

    from pipelines.cell import Cell

# At the top of a checkout; in a wheel it lies inside the package.
CONF = CHECKOUT / "conf" if CHECKOUT else PACKAGE / "conf"
GROUPS = ("model", "dataset", "technique", "training", "measurement", "score")


def cell_of(config: DictConfig) -> Cell:
    """Instantiate and check a composed configuration.

    Raises ValueError with one sentence; IncompatibleError, a ValueError, where technique and model do not go together.
    """
    from pipelines.cell import Cell

    try:
        parts = {group: instantiate(config[group], _convert_="all") for group in GROUPS}
    except InstantiationException as error:
        raise ValueError(str(error.__cause__ or error)) from error
    return Cell(**parts, seed=config.seed, deterministic=config.deterministic)
