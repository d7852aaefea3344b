"""Running a cell against the store: what it needs is found, waited for or run first, and nothing is trained twice."""

from __future__ import annotations

import itertools
import json
import logging
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipelines.datasets.notes import description, resized
from pipelines.results.records import CellFiles, Finished
from pipelines.system import runtime, stopwatch
from pipelines.system.errors import StoreError
from pipelines.tracking.address import check_reachable
from pipelines.tracking.cell_run import Address

if TYPE_CHECKING:
    import tf_keras

    from pipelines.cells.cell import Cell
    from pipelines.datasets.base import Dataset, ImageData
    from pipelines.results.records import CellResult
    from pipelines.tracking.cell_run import CellRun
    from pipelines.tracking.store import Store

log = logging.getLogger("opscore")

POLL_S = 2.0
T = TypeVar("T")


@cache
def loaded(dataset: Dataset) -> ImageData:
    """The dataset's images and labels, read once in a process, which says then what they are."""
    with stopwatch.part("data"):
        data = dataset.load()
        _say(description(dataset.name, data))
    return data


@cache
def _say(text: str) -> None:
    """Print what is said once in a process, whichever of its cells says it."""
    if text:
        print(text, flush=True)


def digest_of(dataset: Dataset) -> str:
    """The content of a dataset's splits, for fingerprints."""
    return loaded(dataset).digest


def preflight(cell: Cell) -> None:
    """Raise what a cell, or one that it needs, would fail with, before anything is computed."""
    cell.dataset.preflight()
    shape = loaded(cell.dataset).image_shape
    cell.model.preflight(shape)
    cell.dataset.check_shift(min(shape[:2]))
    _say("\n".join(textwrap.wrap(resized(min(shape[:2]), cell.model.input_size), 79, subsequent_indent="  ")))
    for role, other in cell.needs.items():
        if role == "source" or other.source is not None:
            preflight(other)


@contextmanager
def _kept(cell: Cell, place: Path) -> Iterator[None]:
    """Say of a cell that fails after its training that the training is not lost."""
    files = CellFiles(place)
    try:
        yield
    except BaseException:
        if any(path.exists() for path in (files.result, files.build, files.trained)):
            kept = f"what {cell.name} has trained is kept in {place}, and the same command goes on from it"
            print(f"opscore: {kept}", file=sys.stderr)
        raise


@dataclass(frozen=True, kw_only=True)
class Executed:
    """A cell that is finished now. files: None where it was in the store already and nothing was computed."""

    result: CellResult
    run_id: str
    files: CellFiles | None

    @property
    def reused(self) -> bool:
        """Whether nothing was computed."""
        return self.files is None


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Runs cells against a store.

    folder: receives one subfolder a cell. parent: the run of the sweep. since: milliseconds since 1970; cells that
    began before are not reused. patience_s: how long to wait for a store that is away when a cell is to be recorded.
    in_child: runs a cell in a process of its own. tell: shows a finished cell.
    """

    store: Store
    folder: Path
    parent: str | None
    since: int
    patience_s: float
    in_child: Callable[[Cell, Path], None]
    tell: Callable[[Executed], None]

    def execute(self, cell: Cell, *, run_id: str | None = None) -> Executed:
        """Reuse the cell or run and record it, after the cells that it needs.

        run_id: an open MLflow run to adopt for this cell, which is then not reused.
        """
        identity = cell.identity(digest_of)

        def find() -> Executed | None:
            found = None if run_id else self.store.find(identity=identity, since=self.since, **cell.tags)
            return Executed(result=self.store.result(found), run_id=found, files=None) if found else None

        executed = find() or self._execute(cell, identity, find, run_id=run_id)
        self.tell(executed)
        return executed

    def _execute(
        self, cell: Cell, identity: str, find: Callable[[], Executed | None], *, run_id: str | None
    ) -> Executed:
        # A training whose results can be kept nowhere is not begun.
        self.store.check_artifacts()
        fingerprint = cell.fingerprint(digest_of)
        try:
            trained = self._trained(fingerprint) is not None
            if not trained:
                self._check_source(cell)
            needed = self._needed(cell, trained=trained)
        except Exception:
            # The cell has failed as well, and says so in the store.
            with self._opened(cell, self._place(cell.name), fingerprint, identity, run_id=run_id):
                raise

        # Only now, with all that it needs at hand: who holds a claim never waits for another.
        def run() -> Executed:
            return self._run(cell, fingerprint, identity, needed, run_id=run_id)

        return self._once(cell, fingerprint, find, run)

    def _check_source(self, cell: Cell) -> None:
        """Raise ValueError where a technique cannot learn from its source, before that or a baseline is trained."""
        learns, source = cell.technique.learns_from, cell.source
        if learns is None:
            return

        def network(of: Cell) -> tf_keras.Model:
            runtime.prepare(onednn=cell.model.onednn, deterministic=cell.deterministic)
            data = loaded(of.dataset)
            return replace(of.model, weights=None).build(data.image_shape, len(data.class_names))

        def source_network() -> tf_keras.Model:
            import tf_keras

            if source is not None:
                return network(source)
            return tf_keras.models.load_model(self.store.load(str(learns.uri)).files.checkpoint, compile=False)

        cell.technique.check_source(lambda: network(cell), source_network)
        runtime.forget_networks()

    def _run(
        self, cell: Cell, fingerprint: str, identity: str, needed: dict[str, Finished], *, run_id: str | None
    ) -> Executed:
        from pipelines.execution import job

        data = loaded(cell.dataset)
        place = self._place(cell.name)
        with self._opened(cell, place, fingerprint, identity, run_id=run_id) as run, _kept(cell, place):
            same = None if run_id else self._found(identity=identity)
            if same:
                finished = job.rename(cell, same, place, say=log.info)
            else:
                trained, unfinished = self._earlier(fingerprint)
                finished = job.run(
                    cell,
                    data,
                    place,
                    fingerprint=fingerprint,
                    needed=needed,
                    trained=trained,
                    unfinished=unfinished,
                    on_epoch=run.on_epoch,
                    say=log.info,
                )
            log.info("%s: recording", cell.name)
            with stopwatch.part("record"):
                self._record(run, finished, data)
        _record_breakdown(run, finished)
        return Executed(result=finished.result, run_id=run.run_id, files=finished.files)

    def _record(self, run: CellRun, finished: Finished, data: ImageData) -> None:
        from pipelines.execution import figures

        figures.draw(finished, data, finished.files.folder / "figures")
        try:
            run.record(finished, data)
        except StoreError as error:
            if not self.patience_s:
                raise
            log.warning("%s", error)
            log.warning("the store is tried again for %.0f s", self.patience_s)
            with stopwatch.part("wait"):
                check_reachable(self.store.uri, patience_s=self.patience_s)
            run.record(finished, data)

    def _place(self, name: str) -> Path:
        """Make a folder of its own, also where another process or an earlier attempt has one of this name.

        What was computed is never written over.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in itertools.count(1):
            place = self.folder / (name if attempt == 1 else f"{name}-{attempt}")
            # Of an attempt whose folder was removed.
            if Address.path(place).exists():
                continue
            with suppress(FileExistsError):
                place.mkdir()
                return place
        raise AssertionError

    def _opened(
        self, cell: Cell, place: Path, fingerprint: str, identity: str, *, run_id: str | None
    ) -> AbstractContextManager[CellRun]:
        return self.store.run(
            cell,
            loaded(cell.dataset),
            place,
            run_id=run_id,
            parent=self.parent,
            fingerprint=fingerprint,
            identity=identity,
        )

    def _earlier(self, fingerprint: str) -> tuple[Finished | None, CellFiles | None]:
        """What is there of the fingerprint: a finished cell, or the files of one that failed after its training."""
        trained = self._trained(fingerprint)
        unfinished = None if trained else self.store.unfinished(fingerprint=fingerprint, since=self.since)
        if unfinished and unfinished.result.exists():
            # Only its recording failed.
            return Finished.load(unfinished.folder), None
        return trained, unfinished

    def _trained(self, fingerprint: str) -> Finished | None:
        """The finished cell of this fingerprint, however it was called, measured and scored."""
        return self._found(fingerprint=fingerprint)

    def _found(self, **tags: str) -> Finished | None:
        found = self.store.find(since=self.since, **tags)
        return self.store.open(found) if found else None

    def _needed(self, cell: Cell, *, trained: bool) -> dict[str, Finished]:
        """The finished cells of `cell.needs`, from the store or run now, and a source that is named by its run.

        Of a cell that is trained already only the baseline is needed, to be measured beside it.
        """
        needed: dict[str, Finished] = {}
        source = cell.technique.learns_from
        if source is not None and source.uri is not None:
            needed["source"] = self.store.load(source.uri)
        by_fingerprint: dict[str, Finished] = {}
        for role, other in cell.needs.items():
            if trained and role != "baseline":
                continue
            fingerprint = other.fingerprint(digest_of)
            if fingerprint not in by_fingerprint:
                by_fingerprint[fingerprint] = self._finished(other, fingerprint, source=role == "source")
            needed[role] = by_fingerprint[fingerprint]
        return needed

    def _finished(self, cell: Cell, fingerprint: str, *, source: bool) -> Finished:
        """A cell that another needs, with its files."""
        # What is learnt from may be called anything; all else is shown beside the cell, under the names that it has.
        names = {} if source else cell.tags
        found = self._found(fingerprint=fingerprint, **names)
        if found is not None:
            log.info("%s: reused, trained in %.1f s", cell.name, found.result.timing.train_total_s)
            return found
        log.info("%s: not in the store, so it is run first", cell.name)
        if source:
            # Another network may want oneDNN the other way, which is set once for a process.
            place = self._place(f"source-{fingerprint[:8]}")
            with stopwatch.part("wait"):
                self.in_child(cell, place)
        else:
            with stopwatch.cell():
                self.execute(cell)
        found = self._trained(fingerprint)
        if found is None:
            raise RuntimeError(f"{cell.name}, which is needed first, did not finish: see its message above")
        return found

    def _once(self, cell: Cell, fingerprint: str, find: Callable[[], T | None], run: Callable[[], T]) -> T:
        """What `find` gives, as soon as it gives anything, else what `run` gives, which one process at a time does."""
        waiting = False
        while True:
            with self.store.claims.held(fingerprint) as held:
                # Another may have finished it between the last look and the claim.
                found = find()
                if found is not None:
                    return found
                if held:
                    self._refuse_what_failed(cell, fingerprint)
                    return run()
            if not waiting:
                log.info("%s: waiting, another process works on it", cell.name)
                waiting = True
            with stopwatch.part("wait"):
                time.sleep(POLL_S)

    def _refuse_what_failed(self, cell: Cell, fingerprint: str) -> None:
        # What all cells of a model lean on would else be trained, and fail, once for each of them.
        failure = self.store.failure(self.parent, fingerprint) if self.parent else None
        if failure is not None:
            raise RuntimeError(f"{cell.name} failed in this sweep already: {failure}")


def _record_breakdown(run: CellRun, finished: Finished) -> None:
    """Keep where the cell's time went, in its folder and in MLflow, where a failure only costs these figures."""
    from pipelines.execution import figures

    spent = stopwatch.current()
    with stopwatch.part("record"):
        figures.save(lambda: figures.breakdown(spent.seconds), finished.files.breakdown_figure)
        finished.files.breakdown.write_text(json.dumps(spent.seconds, indent=2) + "\n")
        try:
            run.record_breakdown(finished)
        except Exception as error:  # noqa: BLE001 (whatever the store's client raises, the cell is recorded)
            log.warning("where the time went is in %s only (%s)", finished.files.breakdown, error)
