"""The choice of recorded cells, which several commands share."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.commands import arguments
from pipelines.comparison.anchoring import anchored
from pipelines.comparison.on_device import Device, Timed, timed
from pipelines.results.recorded_cell import BASELINE, RecordedCell
from pipelines.system.checks import nearest
from pipelines.system.guard import MisuseError
from pipelines.tracking.address import EXPERIMENT, place_options

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
    experiment: str = EXPERIMENT
    # It may hold a password.
    uri: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The selection in the words of the command line, without the store."""
        given = {**self.conditions, "experiment": self.experiment}
        return " ".join(f"{name}={value}" for name, value in given.items() if value)

    @property
    def conditions(self) -> dict[str, str]:
        """What cells are chosen by, as far as it is given, by the options' names."""
        given = {"dataset": self.dataset, "sweep": self.sweep, "filter": self.filter}
        return {name: value for name, value in given.items() if value}

    @property
    def options(self) -> str:
        """All options of a command that shall choose the same cells, with a blank before each."""
        return "".join(f" --{name} {shlex.quote(value)}" for name, value in self.conditions.items()) + self.place

    @property
    def place(self) -> str:
        """The options of experiment and store, for a command that shall find the same cells; empty by default."""
        return place_options(self.experiment, self.uri)

    def words(self, device: Device | None) -> str:
        """The selection and the device in the words of the command line."""
        given = {"target": device.target, "runtime": device.runtime, "threads": device.threads} if device else {}
        return " ".join([str(self), *(f"{name}={value}" for name, value in given.items() if value)])

    def store(self) -> Store:
        """Open the store for reading. Raises MisuseError where the store or the experiment is missing."""
        from pipelines.tracking.store import Store

        with arguments.checked():
            return Store.existing(arguments.open_address(self.uri), self.experiment)

    def cells(self, store: Store) -> list[RecordedCell]:
        """The chosen cells. Raises ValueError where there are none."""
        return self._of_sweep(self._matching(store), store)

    def _matching(self, store: Store) -> list[RecordedCell]:
        """The cells of the dataset that meet the condition, of all sweeps."""
        try:
            return store.finished_cells(self.dataset, condition=self.filter)
        except ValueError as error:
            raise MisuseError(str(error)) from error

    def _of_sweep(self, cells: list[RecordedCell], store: Store) -> list[RecordedCell]:
        if self.sweep:
            parent = store.newest_sweep() if self.sweep == "last" else self.sweep
            of_sweep = set(store.cells_of_sweep(parent))
            cells = [cell for cell in cells if cell.run_id in of_sweep]
        if not cells:
            meant = None
            if self.dataset:
                meant = nearest(self.dataset, {cell.dataset for cell in store.finished_cells()} - {self.dataset})
            mend = f"did you mean dataset={meant}?" if meant else "run one with `opscore run`, or leave conditions out"
            raise ValueError(f"no finished cell in {store.uri} matches {self}: {mend}")
        return cells

    def timed(self, store: Store, device: Device | None) -> Timed:
        """The chosen cells with their times on the device, or without one, by their ratios (`anchoring`).

        Raises MisuseError where none has figures for the device.
        """
        matching = self._matching(store)
        cells = self._of_sweep(matching, store)
        # Those that the choice leaves out, too.
        baselines = (
            store.baselines(self.dataset) if self.filter else [cell for cell in matching if cell.technique == BASELINE]
        )
        if device is None:
            return Timed(cells=tuple(anchored(cells, baselines)), notes=())
        with arguments.checked():
            return timed(cells, device, baselines=baselines)


_OPTIONS = (
    arguments.setting("--sweep", metavar="RUN", help="Cells of the sweep with this run id, or of the last."),
    arguments.setting(
        "--filter", metavar="CONDITION", help='In MLflow\'s syntax: \'params."model.input_size" = "64"\'.'
    ),
    arguments.setting(
        "--tracking.experiment", "--experiment", "experiment", metavar="NAME", default=EXPERIMENT, show_default=True,
        help="MLflow's.",
    ),
    arguments.STORE(),
)  # fmt: skip


_ON_DEVICE = (
    arguments.setting("--target", metavar="DEVICE", help="Decide by the times that `opscore measure` took there."),
    arguments.setting("--runtime", metavar="NAME", help="The runtime there; default: each cell's fastest."),
    arguments.setting("--threads", metavar="NUMBER", help="Of the runtime there; default: 1."),
)


def on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command with a selection the options of a device, and its function the `device`, None for no device."""

    @functools.wraps(function)
    def with_device(
        chosen: Selection, *, target: str | None, runtime: str | None, threads: str | None, **others: Any
    ) -> Any:
        return function(chosen, device=_device(target, runtime, threads, place=chosen.options), **others)

    decorated: Callable[..., Any] = with_device
    for option in reversed(_ON_DEVICE):
        decorated = option(decorated)
    return decorated


def _device(target: str | None, runtime: str | None, threads: str | None, *, place: str) -> Device | None:
    if not target:
        for name, value in (("runtime", runtime), ("threads", threads)):
            if value:
                raise MisuseError(
                    f"{name} needs the device that it is about, got {name}={value} without target: add for example "
                    "--target kitchen-pi, a name given to `opscore measure`"
                )
        return None
    if threads is not None and not (threads.isdecimal() and int(threads)):
        raise MisuseError(f"threads must be a whole number of at least 1, got {threads!r}: set for example threads=1")
    return Device(target=target, runtime=runtime, threads=int(threads or 1), place=place)


def options(
    function: Callable[..., Any], *, dataset: str = "Cells of this dataset; default: of all."
) -> Callable[..., Any]:
    """Give a command the options that choose cells, and its function the Selection that they make.

    dataset: the help of its option.
    """

    @functools.wraps(function)
    def with_selection(
        *, dataset: str | None, sweep: str | None, filter: str | None, experiment: str, uri: str | None, **others: Any
    ) -> Any:
        chosen = Selection(dataset=dataset, sweep=sweep, filter=filter, experiment=experiment, uri=uri)
        return function(chosen, **others)

    decorated: Callable[..., Any] = with_selection
    for option in reversed((arguments.setting("--dataset", metavar="NAME", help=dataset), *_OPTIONS)):
        decorated = option(decorated)
    return decorated


# For a command that needs one dataset.
of_one_dataset = functools.partial(options, dataset="Whose champion; must be given.")
