"""The request to run one cell and record it in a store. `cell.yaml` carries it to another process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

# Imported where a cell is made: `--help` needs no models and techniques.
if TYPE_CHECKING:
    from pipelines.cells.cell import Cell
    from pipelines.tracking.store import Store

FILE = "cell.yaml"
# By so much a needed cell is stopped earlier, so that the process that waits for it can stop it.
AHEAD_S = 2.0


@dataclass(frozen=True, kw_only=True)
class SweepContext:
    """What a cell must know about its sweep.

    sweep_id: the sweep's run. uri, experiment: the store. since: milliseconds since 1970; cells that began earlier are
    not reused.
    """

    sweep_id: str
    uri: str
    experiment: str
    since: int


@dataclass(frozen=True, kw_only=True)
class CellRequest:
    """A cell for any process to run.

    uri, experiment, since, sweep_id: as in SweepContext. patience_s: how long recording waits for a store that does not
    answer. needed: another cell needs it, and the process of that cell shows its result. timeout_s: after so many
    seconds its process is stopped, and those of cells that it needs; None for no limit. began: when this time begins,
    in seconds of `time.monotonic`, which the processes of one machine share.
    """

    cell: Cell
    uri: str
    experiment: str
    since: int
    patience_s: float
    sweep_id: str | None = None
    needed: bool = False
    timeout_s: float | None = None
    began: float = 0.0

    @property
    def left_s(self) -> float | None:
        """The seconds that are left; None for no limit. A needed cell ends a little before the one that needs it."""
        if self.timeout_s is None:
            return None
        return max(0.0, self.began + self.timeout_s - time.monotonic() - (AHEAD_S if self.needed else 0.0))

    def store(self, *, adopted: str | None = None) -> Store:
        """Open the store. adopted: the run that `mlflow run` opened, for a single cell. Raises StoreError."""
        from pipelines.tracking.store import Store

        return Store(self.uri, self.experiment, of_run=self.sweep_id or adopted)

    def save(self, folder: Path) -> Path:
        """Write the request into a folder; gives the file. It holds no password, which is in the environment."""
        from pipelines.cells.cell import parts_of

        rest = {name: value for name, value in vars(self).items() if name != "cell"}
        path = folder / FILE
        OmegaConf.save(OmegaConf.create({"cell": parts_of(self.cell), "request": rest}), path)
        return path

    @classmethod
    def load(cls, path: Path) -> CellRequest:
        """Read what `save` wrote. Raises ValueError where the cell is refused."""
        from pipelines.cells.compose import cell_of

        content = OmegaConf.load(path)
        rest = OmegaConf.to_container(content.request)
        assert isinstance(rest, dict)
        return cls(cell=cell_of(content.cell), **{str(name): value for name, value in rest.items()})
