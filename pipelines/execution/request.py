"""What a process is asked to do: one cell, and where it is recorded. It travels to other processes as `cell.yaml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

# What a cell needs is imported where it is made: `--help` answers without NumPy.
if TYPE_CHECKING:
    from pipelines.cells.cell import Cell
    from pipelines.tracking.store import Store

FILE = "cell.yaml"


@dataclass(frozen=True, kw_only=True)
class SweepContext:
    """What a cell must know of its sweep.

    sweep_id: the sweep's run. uri, experiment: where it is recorded. since: milliseconds since 1970; cells that began
    before are not reused.
    """

    sweep_id: str
    uri: str
    experiment: str
    since: int


@dataclass(frozen=True, kw_only=True)
class CellRequest:
    """A cell to be run, by whichever process.

    uri, experiment: the store. since: as for SweepContext. sweep_id: the run of its sweep. patience_s:
    how long to wait for a store that is away when the cell is to be recorded.
    """

    cell: Cell
    uri: str
    experiment: str
    since: int
    patience_s: float
    sweep_id: str | None = None

    def store(self, *, adopted: str | None = None) -> Store:
        """Open the store. adopted: the open run that a single cell takes for its own. Raises StoreError."""
        from pipelines.tracking.store import Store

        return Store(self.uri, self.experiment, beside=self.sweep_id or adopted)

    def save(self, folder: Path) -> Path:
        """Write the request into a folder; gives the file. A password is never in it: it is in the environment."""
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
