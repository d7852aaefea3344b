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
from pipelines.execution.cell_process import run_in_subprocess
from pipelines.results.folder import CellFiles, Finished
from pipelines.system import runtime, stopwatch
from pipelines.system.errors import StoreError
from pipelines.tracking.address import check_reachable
from pipelines.tracking.cell_run import RunReceipt

if TYPE_CHECKING:
    import tf_keras

    from pipelines.cells.cell import Cell
    from pipelines.cells.plan import Plan
    from pipelines.datasets.base import Dataset, ImageData
    from pipelines.execution.request import CellRequest
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
        _report(description(dataset.name, data))
    return data


@cache
def _report(text: str) -> None:
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
    _report("\n".join(textwrap.wrap(resized(min(shape[:2]), cell.model.input_size), 79, subsequent_indent="  ")))
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

    request: what was asked for; its store, sweep and limits hold for the cells that are needed too. folder: receives
    one subfolder a cell. show: shows a finished cell.
    """

    store: Store
    request: CellRequest
    folder: Path
    show: Callable[[Executed], None]

    def execute(self, plan: Plan, *, run_id: str | None = None) -> Executed:
        """Reuse the cell or run and record it, after the cells that it needs.

        run_id: an open MLflow run to adopt for this cell, which is then not reused.
        """

        def find() -> Executed | None:
            tags = {"identity": plan.result_key, **plan.cell.tags}
            found = None if run_id else self.store.find(since=self.request.since, **tags)
            return Executed(result=self.store.result(found), run_id=found, files=None) if found else None

        executed = find() or self._execute(plan, find, run_id=run_id)
        self.show(executed)
        return executed

    def _execute(self, plan: Plan, find: Callable[[], Executed | None], *, run_id: str | None) -> Executed:
        # A training whose results can be kept nowhere is not begun.
        self.store.check_artifacts()
        try:
            trained = self._trained(plan) is not None
            if not trained:
                self._check_source(plan.cell)
            needed = self._needed(plan, trained=trained)
        except Exception:
            # The cell has failed as well, and says so in the store.
            with self._opened(plan, self._place(plan.cell.name), run_id=run_id):
                raise

        # Only now, with all that it needs at hand: who holds a claim never waits for another.
        def run() -> Executed:
            return self._run(plan, needed, run_id=run_id)

        return self._run_exclusively(plan, find, run)

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

    def _run(self, plan: Plan, needed: dict[str, Finished], *, run_id: str | None) -> Executed:
        from pipelines.execution import job

        cell = plan.cell
        data = loaded(cell.dataset)
        place = self._place(cell.name)
        with self._opened(plan, place, run_id=run_id) as run, _kept(cell, place):
            same = None if run_id else self._found(identity=plan.result_key)
            if same:
                finished = job.rename(cell, same, place, report=log.info)
            else:
                trained, unfinished = self._earlier(plan)
                finished = job.run(
                    cell,
                    data,
                    place,
                    fingerprint=plan.fingerprint,
                    needed=needed,
                    trained=trained,
                    unfinished=unfinished,
                    on_epoch=run.on_epoch,
                    report=log.info,
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
            patience_s = self.request.patience_s
            if not patience_s:
                raise
            log.warning("%s", error)
            log.warning("the store is tried again for %.0f s", patience_s)
            with stopwatch.part("wait"):
                check_reachable(self.store.uri, patience_s=patience_s)
            run.record(finished, data)

    def _place(self, name: str) -> Path:
        """Make a folder of its own, also where another process or an earlier attempt has one of this name.

        What was computed is never written over.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for attempt in itertools.count(1):
            place = self.folder / (name if attempt == 1 else f"{name}-{attempt}")
            # Of an attempt whose folder was removed.
            if RunReceipt.path(place).exists():
                continue
            with suppress(FileExistsError):
                place.mkdir()
                return place
        raise AssertionError

    def _opened(self, plan: Plan, place: Path, *, run_id: str | None) -> AbstractContextManager[CellRun]:
        return self.store.run(
            plan.cell,
            loaded(plan.cell.dataset),
            place,
            run_id=run_id,
            parent=self.request.sweep_id,
            fingerprint=plan.fingerprint,
            identity=plan.result_key,
        )

    def _earlier(self, plan: Plan) -> tuple[Finished | None, CellFiles | None]:
        """What is there of the fingerprint: a finished cell, or the files of one that failed after its training."""
        trained, since = self._trained(plan), self.request.since
        unfinished = None if trained else self.store.unfinished(fingerprint=plan.fingerprint, since=since)
        if unfinished and unfinished.result.exists():
            # Only its recording failed.
            return Finished.load(unfinished.folder), None
        return trained, unfinished

    def _trained(self, plan: Plan) -> Finished | None:
        """The finished cell of this fingerprint, however it was called, measured and scored."""
        return self._found(fingerprint=plan.fingerprint)

    def _found(self, **tags: str) -> Finished | None:
        found = self.store.find(since=self.request.since, **tags)
        return self.store.open(found) if found else None

    def _needed(self, plan: Plan, *, trained: bool) -> dict[str, Finished]:
        """The finished cells of `plan.needs`, from the store or run now, and a source that is named by its run.

        Of a cell that is trained already only the baseline is needed, to be measured beside it.
        """
        needed: dict[str, Finished] = {}
        source = plan.cell.technique.learns_from
        if source is not None and source.uri is not None:
            needed["source"] = self.store.load(source.uri)
        by_fingerprint: dict[str, Finished] = {}
        for role, other in plan.needs.items():
            if trained and role != "baseline":
                continue
            if other.fingerprint not in by_fingerprint:
                by_fingerprint[other.fingerprint] = self._finished(other, source=role == "source")
            needed[role] = by_fingerprint[other.fingerprint]
        return needed

    def _finished(self, plan: Plan, *, source: bool) -> Finished:
        """A cell that another needs, with its files."""
        cell = plan.cell
        # What is learnt from may be called anything; all else is shown beside the cell, under the names that it has.
        names = {} if source else cell.tags
        found = self._found(fingerprint=plan.fingerprint, **names)
        if found is not None:
            log.info("%s: reused, trained in %.1f s", cell.name, found.result.timing.train_total_s)
            return found
        log.info("%s: not in the store, so it is run first", cell.name)
        if source:
            # Another network may want oneDNN the other way, which is set once for a process.
            place = self._place(f"source-{plan.fingerprint[:8]}")
            with stopwatch.part("wait"):
                run_in_subprocess(replace(self.request, cell=cell), place)
        else:
            with stopwatch.cell():
                self.execute(plan)
        found = self._trained(plan)
        if found is None:
            raise RuntimeError(f"{cell.name}, which is needed first, did not finish: see its message above")
        return found

    def _run_exclusively(self, plan: Plan, find: Callable[[], T | None], run: Callable[[], T]) -> T:
        """What `find` gives, as soon as it gives anything, else what `run` gives, which one process at a time does."""
        waiting = False
        while True:
            with self.store.claims.held(plan.fingerprint) as held:
                # Another may have finished it between the last look and the claim.
                found = find()
                if found is not None:
                    return found
                if held:
                    self._fail_fast(plan)
                    return run()
            if not waiting:
                log.info("%s: waiting, another process works on it", plan.cell.name)
                waiting = True
            with stopwatch.part("wait"):
                time.sleep(POLL_S)

    def _fail_fast(self, plan: Plan) -> None:
        # What all cells of a model lean on would else be trained, and fail, once for each of them.
        parent = self.request.sweep_id
        failure = self.store.failure(parent, plan.fingerprint) if parent else None
        if failure is not None:
            raise RuntimeError(f"{plan.cell.name} failed in this sweep already: {failure}")


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
