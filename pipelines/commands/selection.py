"""The choice of recorded cells, which several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.commands import arguments
from pipelines.results.recorded import RecordedCell

if TYPE_CHECKING:
    from pipelines.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Finished cells of one experiment.

    dataset: its name, None for all. sweep: the run id of a sweep, or `last`. filter: a condition in MLflow's syntax.
    uri: the store, None for the default one.
    """

    dataset: str | None = None
    sweep: str | None = None
    filter: str | None = None
    experiment: str = "opscore"
    # It may hold a password.
    uri: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The selection in the words of the command line, without the store."""
        given = {"dataset": self.dataset, "sweep": self.sweep, "filter": self.filter, "experiment": self.experiment}
        return " ".join(f"{name}={value}" for name, value in given.items() if value)

    def store(self) -> Store:
        """Open the store for reading. Raises MisuseError where the store or the experiment is missing."""
        from pipelines.tracking.store import Store

        with arguments.checked():
            return Store.existing(arguments.open_address(self.uri), self.experiment)

    def cells(self, store: Store | None = None) -> list[RecordedCell]:
        """The chosen cells. store: the open store, None to open it. Raises ValueError where there are none."""
        store = store or self.store()
        cells = store.finished_cells(self.dataset, condition=self.filter)
        if self.sweep:
            parent = store.newest_sweep() if self.sweep == "last" else self.sweep
            of_sweep = set(store.cells_of_sweep(parent))
            cells = [cell for cell in cells if cell.run_id in of_sweep]
        if not cells:
            raise ValueError(
                f"no finished cell in {store.uri} matches {self}: run one with `opscore run`, or leave conditions out"
            )
        return cells


_OPTIONS = (
    arguments.setting("--dataset", metavar="NAME", help="Cells of this dataset; default: of all."),
    arguments.setting("--sweep", metavar="RUN", help="Cells of the sweep with this run id, or of the last."),
    arguments.setting(
        "--filter", metavar="CONDITION", help='In MLflow\'s syntax: \'params."model.input_size" = "64"\'.'
    ),
    arguments.setting("--experiment", metavar="NAME", default="opscore", show_default=True, help="MLflow's."),
    arguments.STORE(),
)  # fmt: skip


def options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that choose cells, and its function the Selection that they make."""

    @functools.wraps(function)
    def with_selection(
        *, dataset: str | None, sweep: str | None, filter: str | None, experiment: str, uri: str | None, **others: Any
    ) -> Any:
        chosen = Selection(dataset=dataset, sweep=sweep, filter=filter, experiment=experiment, uri=uri)
        return function(chosen, **others)

    decorated: Callable[..., Any] = with_selection
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
