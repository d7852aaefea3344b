"""Runs a cell against the store. What it needs is found, awaited or run first, so that nothing is trained twice."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cells.plan import Plan
from pipelines.execution.cell_process import run_in_subprocess
from pipelines.execution.preflight import digest_of, loaded
from pipelines.models import checkpoint
from pipelines.results import summary
from pipelines.results.folder import CellFiles, Finished
from pipelines.system import runtime, stopwatch
from pipelines.system.errors import StoreError
from pipelines.system.places import new_folder
from pipelines.techniques.base import FileTechnique
from pipelines.tracking.cell_run import RunReceipt, keys_of
from pipelines.tracking.client import may_pass
from pipelines.tracking.reachable import check_reachable

if TYPE_CHECKING:
    import tf_keras

    from pipelines.cells.cell import Cell
    from pipelines.datasets.base import ImageData
    from pipelines.execution.request import CellRequest
    from pipelines.results.cell_result import CellResult
    from pipelines.tracking.cell_run import CellRun
    from pipelines.tracking.store import Store

log = logging.getLogger("opscore")

POLL_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Executed:
    """A finished cell. files: None where the store had it already, so that nothing was computed."""

    result: CellResult
    run_id: str
    files: CellFiles | None


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Runs cells against a store.

    request: its store, sweep and limits also hold for the cells that its cell needs. folder: receives one subfolder per
    cell. adopted: the run that `mlflow run` opened, for the cell to take; such a cell is not reused.
    """

    store: Store
    request: CellRequest
    folder: Path
    adopted: str | None = None

    def execute(self, plan: Plan) -> Executed:
        """Reuse the cell, or run and record it after the cells that it needs."""
        return self._reuse(plan) or self._execute(plan)

    def _reuse(self, plan: Plan) -> Executed | None:
        if self.adopted:
            return None
        found = self.store.find(since=self.request.since, result_key=plan.result_key, **plan.cell.tags)
        return Executed(result=self.store.result(found), run_id=found, files=None) if found else None

    def _execute(self, plan: Plan) -> Executed:
        # Without a place for its results, no training begins.
        self.store.check_artifacts()
        try:
            trained = self._is_trained(plan)
            if not trained:
                self._check_source(plan.cell)
            needed = self._needed(plan, trained=trained)
        except Exception:
            # The cell has failed as well, and its own run records why.
            with self._opened(plan, self._new_folder(plan.cell.name)):
                raise
        return self._run_exclusively(plan, needed)

    def _run_exclusively(self, plan: Plan, needed: dict[str, Finished]) -> Executed:
        """Run the cell while holding its claim, or reuse it once the process that holds the claim has finished it."""
        waiting = runs = False
        failing_since: float | None = None
        while True:
            try:
                # Everything that the cell needs is finished: whoever holds a claim never waits for another.
                with self.store.claims.held(plan.fingerprint) as held:
                    # Another process may have finished it between the last look and the claim.
                    executed = self._reuse(plan)
                    if executed is not None:
                        return executed
                    if held:
                        runs = True
                        self._fail_fast(plan)
                        return self._run(plan, needed)
                failing_since = None
            except Exception as error:
                # The store is away for a while, and the other process goes on meanwhile.
                since, now = failing_since, time.monotonic()
                failing_since = now if since is None else since
                if runs or not waiting or now - failing_since >= self.request.patience_s:
                    raise
                if since is None:
                    log.warning("%s: the store does not answer (%s)", plan.cell.name, error)
                with stopwatch.part("wait"):
                    check_reachable(self.store.uri, patience_s=self.request.patience_s)
            if not waiting:
                log.info("%s: waiting, another process works on it", plan.cell.name)
                waiting = True
            with stopwatch.part("wait"):
                time.sleep(POLL_S)

    def _fail_fast(self, plan: Plan) -> None:
        """Raise RuntimeError where the cell failed in this sweep: each cell that needs it would repeat the failure."""
        parent = self.request.sweep_id
        if parent is None:
            return
        failure = self.store.failure(
            parent, fingerprint=plan.fingerprint, result_key=plan.result_key, since=self.request.since
        )
        if failure is not None:
            raise RuntimeError(f"{plan.cell.name} failed in this sweep already: {failure}")

    def _run(self, plan: Plan, needed: dict[str, Finished]) -> Executed:
        from pipelines.execution import job

        cell, data = plan.cell, loaded(plan.cell.dataset)
        folder = self._new_folder(cell.name)
        with self._opened(plan, folder) as run, _report_kept_training(cell, folder, self.request):
            same = None if self.adopted else self._kept(result_key=plan.result_key)
            if same:
                finished = job.rename(cell, same, folder, report=log.info)
            else:
                work = job.Job(
                    cell=cell,
                    data=data,
                    files=CellFiles(folder),
                    fingerprint=plan.fingerprint,
                    needed=needed,
                    on_epoch=run.on_epoch,
                    report=log.info,
                )
                trained, unfinished = self._earlier(plan)
                if trained is None and unfinished is None and Plan.of(cell, digest_of).fingerprint != plan.fingerprint:
                    raise RuntimeError(
                        f"a file that {cell.name} starts from, with weights or names of classes, changed while it "
                        "waited or what it needs was run: the same command again takes the new file"
                    )
                if trained is None and plan.needs.keys() - needed.keys():
                    raise StoreError(
                        f"the exported model of {cell.name} was lost from its run meanwhile: the same command trains it"
                    )
                finished = work.run(trained=trained, unfinished=unfinished)
            log.info("%s: recording", cell.name)
            with stopwatch.part("record"):
                self._record(run, finished, data)
        _record_breakdown(run, finished)
        return Executed(result=finished.result, run_id=run.run_id, files=finished.files)

    def _record(self, run: CellRun, finished: Finished, data: ImageData) -> None:
        from pipelines.execution import figures

        figures.draw(finished, data, finished.files.folder / "figures")
        patience_s = self.request.patience_s
        deadline: float | None = None
        while True:
            try:
                return run.record(finished, data)
            except StoreError as error:
                now = time.monotonic()
                # What is no fault of the moment is tried once more, as the store may have been cut off just then.
                again = deadline is None or (now < deadline and may_pass(error.__cause__))
                if not patience_s or not again:
                    raise
                if deadline is None:
                    deadline = now + patience_s
                    log.warning("%s", error)
                    log.warning("opscore tries the store again for %.0f s", patience_s)
                with stopwatch.part("wait"):
                    # A server may answer while its database does not.
                    time.sleep(min(POLL_S, patience_s))
                    try:
                        check_reachable(self.store.uri, patience_s=deadline - time.monotonic())
                    except ConnectionError:
                        # It says where the files are, and how to send them.
                        raise error from error.__cause__

    def _new_folder(self, name: str) -> Path:
        """Make a folder for a cell. It never is the folder of another process or of an earlier attempt."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # An attempt whose folder was removed leaves its receipt.
        return new_folder(self.folder, name, taken=lambda folder: RunReceipt.path(folder).exists())

    def _opened(self, plan: Plan, folder: Path) -> AbstractContextManager[CellRun]:
        return self.store.run(
            plan.cell,
            loaded(plan.cell.dataset),
            folder,
            adopted=self.adopted,
            parent=self.request.sweep_id,
            keys=keys_of(
                folder,
                fingerprint=plan.fingerprint,
                result_key=plan.result_key,
                code=plan.code,
                baseline=plan.baseline,
            ),
        )

    def _earlier(self, plan: Plan) -> tuple[Finished | None, CellFiles | None]:
        """A finished cell of this fingerprint, or the files of one that failed after its training."""
        # Under whatever name, measurement and score.
        trained, since = self._kept(fingerprint=plan.fingerprint), self.request.since
        unfinished = None if trained else self.store.unfinished(fingerprint=plan.fingerprint, since=since)
        if unfinished and unfinished.result.exists():
            # Only its recording failed.
            return Finished.load(unfinished.folder), None
        return trained, unfinished

    def _kept(self, **tags: str) -> Finished | None:
        """The newest finished cell with these tags whose run still has its exported model."""
        run_id = self.store.find_trained(since=self.request.since, **tags)
        return self.store.open(run_id) if run_id else None

    def _is_trained(self, plan: Plan) -> bool:
        """Whether the store has its fingerprint finished; the files of that cell may be large, and are not read."""
        return self.store.find_trained(fingerprint=plan.fingerprint, since=self.request.since) is not None

    def _found(self, **tags: str) -> Finished | None:
        found = self.store.find(since=self.request.since, **tags)
        return self.store.open(found) if found else None

    def _check_source(self, cell: Cell) -> None:
        """Raise ValueError where a technique cannot learn from its teacher or donor, before any cell is trained."""
        learns = cell.technique.source_cell
        if learns is None:
            return
        files = None if learns.uri is None else self.store.load(learns.uri).files

        def source_network() -> tf_keras.Model:
            if cell.source is not None:
                return _network(cell.source, process_of=cell)
            from pipelines.execution.job import register_layers

            assert files is not None  # a source has parts or a run
            runtime.prepare(onednn=cell.model.onednn, deterministic=cell.deterministic)
            register_layers(files)
            return checkpoint.load(files.checkpoint)

        if files is not None:
            from pipelines.litert.labels import labels_of

            cell.technique.check_source_classes(loaded(cell.dataset).class_names, labels_of(files.exported_model))
        cell.technique.check_source(lambda: _network(cell, process_of=cell), source_network)
        runtime.forget_networks()

    def _needed(self, plan: Plan, *, trained: bool) -> dict[str, Finished]:
        """The finished cells by role, from the store or run now, with a teacher or donor that is named by its run.

        A cell that is trained already needs only its baseline, to be measured with it.
        """
        needed: dict[str, Finished] = {}
        learns = plan.cell.technique.source_cell
        if learns is not None and learns.uri is not None:
            needed["source"] = self.store.load(learns.uri)

        @cache
        def check_network() -> None:
            # Before any cell is trained for this one. Where none has to be, `apply` finds the same faults as soon.
            if not trained:
                plan.cell.technique.check_network(lambda: _network(plan.cell, process_of=plan.cell))
                runtime.forget_networks()

        by_fingerprint: dict[str, Finished] = {}
        for role, other in plan.needs.items():
            if trained and role != "baseline":
                continue
            if other.fingerprint not in by_fingerprint:
                by_fingerprint[other.fingerprint] = self._finished(other, role, before=check_network)
            needed[role] = by_fingerprint[other.fingerprint]
        for role, finished in needed.items():
            technique = plan.cell.technique
            of_file = isinstance(technique.last, FileTechnique)
            if role == "baseline" or of_file:
                _check_kept(finished, "exported_model", plan.cell.name)
            # The effects of a chain's other steps are those that the network promises.
            if role != "baseline" and (not of_file or technique is not technique.last):
                _check_kept(finished, "checkpoint", plan.cell.name)
        return needed

    def _finished(self, plan: Plan, role: str, *, before: Callable[[], None]) -> Finished:
        """A needed cell with its files. before: called if it has to be run."""
        cell, is_source = plan.cell, role == "source"
        # A teacher or donor may have any name; a parent cell and a baseline are compared with the cell by name.
        tags = {"fingerprint": plan.fingerprint} | ({} if is_source else cell.tags)
        # Where no run has kept its exported model, the cell may do without, or says what is lost.
        if found := self._kept(**tags) or self._found(**tags):
            log.info("%s, reused", summary.brief(found.result))
            return found
        before()
        log.info("%s: not in the store, so it is run first", cell.name)
        # Not found by its time: the clocks of a cluster's machines differ.
        if is_source:
            # TensorFlow reads its oneDNN setting once per process, and another network may need another setting.
            folder = self._new_folder(f"source-{plan.fingerprint[:8]}")
            with stopwatch.part("wait"):
                outcome = run_in_subprocess(replace(self.request, cell=cell, needed=True), folder)
            if outcome.status != "failed":
                found = self.store.open(outcome.run_id)
            else:
                # Its process may have been killed after its run ended. A store that is away is why it failed.
                with suppress(StoreError):
                    found = self._kept(fingerprint=plan.fingerprint)
                if found is None:
                    raise RuntimeError(f"{cell.name}, which is needed first, did not finish: {outcome.message}")
        else:
            with stopwatch.cell():
                found = self.store.open(replace(self, adopted=None).execute(plan).run_id)
        log.info("%s", summary.brief(found.result))
        return found


def _check_kept(finished: Finished, name: str, cell: str) -> None:
    """Raise StoreError where a file is lost that a cell needs of a finished one, as where somebody made room."""
    path: Path = getattr(finished.files, name)
    if not path.is_file():
        raise StoreError(
            f"the {path.name} of {finished.result.name}, which {cell} needs, is lost from its run: bring back the "
            f"artifact cell/{path.name}, or add resume=false to the command, which makes everything anew"
        )


def _network(cell: Cell, *, process_of: Cell) -> tf_keras.Model:
    """The network of a cell with random weights, in the process of a cell whose settings of TensorFlow count."""
    runtime.prepare(onednn=process_of.model.onednn, deterministic=process_of.deterministic)
    data = loaded(cell.dataset)
    return cell.model.untrained().build(data.image_shape, len(data.class_names))


@contextmanager
def _report_kept_training(cell: Cell, folder: Path, request: CellRequest) -> Iterator[None]:
    """Report that the training is not lost where the cell fails after it."""
    files = CellFiles(folder)
    try:
        yield
    except BaseException:
        if any(path.exists() for path in (files.result, files.build, files.trained)):
            kept = f"the training of {cell.name} is kept in {folder}, and the same command goes on from it"
            kept += " with resume=true, where no older run has finished" if request.since else ""
            print(f"opscore: {kept}", file=sys.stderr)
        raise


def _record_breakdown(run: CellRun, finished: Finished) -> None:
    """Record where the cell's time went, in its folder and in MLflow. A failure costs only these figures."""
    from pipelines.execution import figures

    spent = stopwatch.current()
    with stopwatch.part("record"):
        figures.save(lambda: figures.breakdown(spent.seconds), finished.files.breakdown_figure)
        try:
            finished.files.breakdown.write_text(json.dumps(spent.seconds, indent=2) + "\n")
        except OSError as error:
            log.warning("the store does not have where the time of %s went (%s)", finished.files.folder, error)
        else:
            run.record_breakdown(finished)
