"""The tracking store: finds finished cells, opens their runs, and closes the runs of dead processes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.results.folder import CellFiles, Finished
from pipelines.results.metrics import ACCURACY, SCORE
from pipelines.results.recorded_cell import BASELINE, RecordedCell
from pipelines.system.errors import StoreError
from pipelines.system.runtime import no_garbage_collection
from pipelines.tracking import experiment as experiments
from pipelines.tracking import moved, schema, tags, view
from pipelines.tracking.artifacts import check_writable
from pipelines.tracking.cell_of_run import cell_of, quoted
from pipelines.tracking.cell_run import CellRun
from pipelines.tracking.claims import Claims
from pipelines.tracking.client import TEXT_CHARACTERS, connected, live_run, retry_on_conflict
from pipelines.tracking.liveness import is_dead, stem
from pipelines.tracking.run_files import LostFilesError, RunFiles

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipelines.cells.cell import Cell
    from pipelines.datasets.base import ImageData

log = logging.getLogger(__name__)

# A table of the outcomes of a sweep's cells, on the sweep's run.
TABLE = "cells.json"
NEWEST_FIRST = ("attributes.start_time DESC",)
# The tags by which `find` looks for a cell, by the words of its callers.
SOUGHT = {"fingerprint": tags.FINGERPRINT, "result_key": tags.RESULT_KEY}


class Store(RunFiles):
    """An experiment in a tracking store. Opening it creates store and experiment where they are missing.

    of_run: a run whose experiment replaces the configured one. Raises StoreError where the store cannot be opened.
    """

    def __init__(self, uri: str, experiment: str, *, of_run: str | None = None, create: bool = True) -> None:
        try:
            if create:
                moved.prepare(uri, experiment, of_run=of_run)
                schema.create(uri)
            super().__init__(connected(uri) if create else experiments.reading_client(uri))
            if of_run:
                self.experiment_id: str = self.client.get_run(of_run).info.experiment_id
                experiment = self.client.get_experiment(self.experiment_id).name
            else:
                find = experiments.find_or_create if create else experiments.find
                self.experiment_id = find(self.client, uri, experiment)
        except StoreError:
            raise
        except Exception as error:
            raise experiments.cannot_be_opened(uri, error) from error
        if create:
            import mlflow

            mlflow.set_experiment(experiment_id=self.experiment_id)
            experiments.show_in_ui(self.client, self.experiment_id)
        self.uri, self.experiment = uri, experiment
        self.claims = Claims(self.client)
        self._artifacts_checked = False
        # Runs of which it was said that their exported model is lost.
        self._lost: set[str] = set()

    @classmethod
    def existing(cls, uri: str, experiment: str) -> Store:
        """Open the store for reading; makes nothing. Raises StoreError where the store or experiment is missing."""
        return cls(uri, experiment, create=False)

    def check_artifacts(self) -> None:
        """Raise StoreError where artifacts cannot be written. Only the first call checks."""
        if self._artifacts_checked:
            return
        try:
            check_writable(self.client.get_experiment(self.experiment_id), self.uri)
        except PermissionError as error:
            raise StoreError(str(error)) from error
        self._artifacts_checked = True

    def find(self, *, since: int = 0, **values: str) -> str | None:
        """The id of the newest finished run with these tags and a readable result; None where there is none.

        since: milliseconds since 1970; runs that began earlier do not count. values: of `fingerprint` or `result_key`,
        and of tags for people. Raises StoreError where the store has a result and does not give it now.
        """
        return next(self._finished(values, since), None)

    def find_trained(self, *, since: int = 0, **values: str) -> str | None:
        """As `find`, of the runs that still have their exported model, so that nothing is trained."""
        for run_id in self._finished(values, since):
            if self.has_exported_model(run_id):
                return run_id
            if run_id not in self._lost:
                self._lost.add(run_id)
                log.warning("the exported model of run %s is lost: an older run is taken, or it is trained", run_id)
        return None

    def _finished(self, values: Mapping[str, str], since: int) -> Iterator[str]:
        """The ids of `find`, the newest first."""
        named = {SOUGHT.get(key, key): value for key, value in values.items()}
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in named.items())
        condition += f" and attributes.status = 'FINISHED' and attributes.start_time >= {since}"
        for run in self._found(condition, order_by=NEWEST_FIRST, page=1):
            run_id: str = run.info.run_id
            try:
                self.result(run_id)
            except LostFilesError as error:
                log.warning("%s: an older run of its cell is taken, or it is run again", error)
            else:
                yield run_id

    def unfinished(self, *, fingerprint: str, since: int = 0) -> CellFiles | None:
        """The files on this machine of the newest cell of this fingerprint that failed after its training.

        Hold the claim of the fingerprint, so that no other process works on such a cell. since: as in `find`.
        """
        condition = f"tags.`{tags.FINGERPRINT}` = '{fingerprint}' and attributes.status != 'FINISHED'"
        for run in self._found(f"{condition} and attributes.start_time >= {since}", order_by=NEWEST_FIRST):
            files = CellFiles(Path(run.data.tags.get(tags.FOLDER, "/nowhere")))
            if any(_is_of(fingerprint, path) for path in (files.result, files.build, files.trained)):
                return files
        return None

    def load(self, uri: str) -> Finished:
        """The finished cell of `runs:/<run id>`. Raises StoreError where it is lost or has no checkpoint."""
        try:
            finished = self.open(uri.removeprefix("runs:/"))
        except StoreError as error:
            raise StoreError(
                f"{uri} must be a finished cell in the store {self.uri}, which gives {error}: correct the run's id, "
                "or set tracking.uri to the store that holds it"
            ) from error
        if not finished.files.checkpoint.is_file():
            raise StoreError(
                f"{uri} must be a cell that was trained, got {finished.result.name}, which has no checkpoint: name "
                "the run of the cell that it started from"
            )
        return finished

    def finished_cells(self, dataset: str | None = None, *, condition: str | None = None) -> list[RecordedCell]:
        """Every finished cell of the experiment, of one dataset or of all. Each has an accuracy and a score.

        condition: a filter in MLflow's syntax. Raises ValueError where the store does not understand the filter, and
        StoreError where it does not answer.
        """
        import mlflow

        conditions = ["attributes.status = 'FINISHED'", "tags.technique != ''"]
        conditions += [f"tags.dataset = {quoted(dataset)}"] if dataset is not None else []
        conditions += [condition] if condition else []
        try:
            # MLflow builds a hundred objects per run, none of them in a cycle.
            with no_garbage_collection():
                found = [cell_of(run) for run in self._found(" and ".join(conditions))]
        except mlflow.MlflowException as error:
            if condition and error.error_code == "INVALID_PARAMETER_VALUE":
                raise ValueError(
                    f"filter must be a condition of MLflow's, got {condition!r} ({error}): set for example "
                    "--filter \"params.seed = '0'\" or --filter 'metrics.`test/accuracy` > 0.9'"
                ) from error
            raise StoreError(f"the store must list its runs, got {error}") from error
        # Another program may have ended a run before it had results.
        return [cell for cell in found if cell.fingerprint and {ACCURACY, SCORE} <= cell.metrics.keys()]

    def baselines(self, dataset: str | None = None) -> list[RecordedCell]:
        """Every finished baseline of the experiment, of one dataset or of all."""
        return self.finished_cells(dataset, condition=f"tags.technique = '{BASELINE}'")

    def cells_of_sweep(self, parent: str) -> list[str]:
        """The run ids of a sweep's cells, reused ones included; of one without a list, those that it ran itself.

        Raises StoreError where `parent` is no sweep with cells.
        """
        import mlflow

        try:
            table = mlflow.artifacts.load_dict(f"runs:/{parent}/{TABLE}")
        except Exception as error:  # The clients of S3 and others raise their own.
            if own := self._own_cells(parent):
                log.warning(
                    "the sweep %s has no list of its cells, as it was killed or the store did not answer at its end: "
                    "these are those that it ran itself, without reused ones",
                    parent,
                )
                return own
            if live_run(self.client, parent) is not None and self._has(parent, TABLE):
                raise StoreError(
                    f"the store has the list of the cells of sweep {parent} but does not give it ({error}): try again "
                    "once it does, or choose cells with --dataset or --filter"
                ) from error
            raise StoreError(
                f"sweep must be a run of a sweep that has ended with results, got {parent!r}, which has no list of its "
                "cells: run the same sweep again, or choose cells with --dataset or --filter"
            ) from error
        at = table["columns"].index("run_id")
        return [row[at] for row in table["data"] if row[at]]

    def _own_cells(self, parent: str) -> list[str]:
        """The run ids of the cells that a sweep without a table of outcomes ran; empty while it runs.

        It was killed, or the store did not answer at its end.
        """
        run = live_run(self.client, parent)
        if run is None or (run.info.status == "RUNNING" and not _is_dead(run)):
            return []
        if self._has(parent, TABLE):
            return []
        return [one.info.run_id for one in self._found(f"tags.`{tags.PARENT}` = {quoted(parent)}")]

    def newest_sweep(self) -> str:
        """The run id of the newest sweep of the experiment that does not run any more.

        Logs those that still run. Raises StoreError where there is no other.
        """
        running: list[str] = []
        for run in self._found(f"tags.sweep != '' and tags.`{tags.PROCESS}` != ''", order_by=NEWEST_FIRST, page=10):
            run_id: str = run.info.run_id
            if run.info.status != "RUNNING" or _is_dead(run):
                if running:
                    log.warning("the newest sweep, %s, still runs: the one before it is taken, %s", running[0], run_id)
                return run_id
            running.append(run_id)
        raise StoreError(
            f"sweep must be a recorded one that has ended, and experiment {self.experiment!r} of {self.uri} has none: "
            + (f"wait for {running[0]}" if running else "run one with `opscore sweep`")
        )

    @contextmanager
    def run(
        self,
        cell: Cell,
        data: ImageData,
        folder: Path,
        *,
        adopted: str | None = None,
        parent: str | None = None,
        keys: Mapping[str, str],
    ) -> Iterator[CellRun]:
        """A run for `cell`, which ends as `CellRun.opened` says.

        folder: the cell's. adopted: the run that `mlflow run` opened, for the cell to take. parent: the run of the
        cell's sweep. keys: the tags by which it is found (`cell_run.keys_of`).
        """
        # Those for people first: MLflow shows tags in the order in which they were set.
        named = CellRun.tags(cell) | ({tags.PARENT: parent} if parent else {})
        named |= keys
        with CellRun.opened(self, folder=folder, run_id=adopted, tags=named, keys=keys, images=data.digest) as run:
            run.start(cell, data)
            yield run

    @contextmanager
    def resumed(
        self,
        run_id: str,
        cell: Cell,
        data: ImageData,
        folder: Path,
        *,
        keys: Mapping[str, str],
        images: str,
    ) -> Iterator[CellRun]:
        """The run of a finished cell that was not recorded completely, or a new one if the store has lost it.

        keys: the tags by which the cell is found (`cell_run.keys_of`), for a new run. One that is there has them.
        images: the digest of the images that the cell was computed with. Raises StoreError while the process that
        computed the cell may still record it, and where the store refuses.
        """
        import mlflow

        there = live_run(self.client, run_id)
        if there is not None:
            process = there.data.tags.get(tags.PROCESS, "")
            if there.info.status == "RUNNING" and not _is_dead(there):
                raise StoreError(f"its run {run_id} is still being recorded by the process {process}: let it finish")
        opened_id = run_id if there else None
        named = {tags.FOLDER: keys[tags.FOLDER]} if there else {**CellRun.tags(cell), **keys}
        try:
            with CellRun.opened(
                self, folder=folder, run_id=opened_id, tags=named, keys=keys, images=images, monitored=False
            ) as run:
                if there is None:
                    run.start(cell, data)
                yield run
        except mlflow.MlflowException as error:
            raise StoreError(f"the store must take the run {run_id}, got {error}") from error

    def failure(self, parent: str, *, fingerprint: str, result_key: str, since: int) -> str | None:
        """Why the cell failed in the sweep `parent`; None if it did not, or may end now.

        It may if its training is there and another result key was asked for: another measurement or score. since: as
        in `find`.
        """
        condition = f"tags.`{tags.FINGERPRINT}` = '{fingerprint}' and tags.`{tags.PARENT}` = '{parent}'"
        condition += " and attributes.status = 'FAILED'"
        for run in self._found(condition, order_by=NEWEST_FIRST):
            if run.data.tags.get(tags.RESULT_KEY) == result_key or not self._is_trained(fingerprint, since):
                return run.data.tags.get(tags.FAILURE, "no reason is recorded")
        return None

    def _is_trained(self, fingerprint: str, since: int) -> bool:
        return bool(
            self.find_trained(fingerprint=fingerprint, since=since)
            or self.unfinished(fingerprint=fingerprint, since=since)
        )

    def started(self, run_id: str) -> int:
        """When a run began, in milliseconds since 1970."""
        return int(self.client.get_run(run_id).info.start_time)

    def close(self, pid: int, reason: str, log_path: Path | None) -> dict[str, str]:
        """Mark the open runs of a dead process of this machine as FAILED; gives their names by id.

        log_path: the process's output, which becomes an artifact of each run.
        """
        runs = list(self._found(f"attributes.status = 'RUNNING' and tags.`{tags.PROCESS}` LIKE '{stem(pid)}%'"))
        for run in runs:
            if log_path is not None:
                self.client.log_artifact(run.info.run_id, str(log_path))
            self._end(run, "FAILED", reason)
        return {run.info.run_id: run.info.run_name for run in runs}

    def close_dead(self) -> int:
        """Mark the open runs of dead processes as KILLED and delete their claims; gives the number of runs."""
        from mlflow import MlflowException

        closed = 0
        for run in list(self._found(f"attributes.status = 'RUNNING' and tags.`{tags.PROCESS}` != ''")):
            if _is_dead(run):
                process = run.data.tags[tags.PROCESS]
                try:
                    self._end(run, "KILLED", f"the process that worked on it ({process}) ended without closing it")
                except MlflowException as error:
                    # A person may have deleted it by now. It is no reason to refuse a command.
                    log.warning("the run %s of a dead process could not be closed: %s", run.info.run_id, error)
                else:
                    closed += 1
        self.claims.clear_dead()
        return closed

    def link(self, run_id: str) -> str:
        """The run's page in MLflow's UI, on the store's server or as `make ui` serves it."""
        return f"{self._host}/#/experiments/{self.experiment_id}/runs/{run_id}"

    @property
    def list_link(self) -> str:
        """The list of all runs in MLflow's UI with the headline columns, the highest score first."""
        return view.link(self._host, self.experiment_id)

    @property
    def _host(self) -> str:
        return self.uri.rstrip("/") if self.uri.startswith("http") else "http://127.0.0.1:5000"

    def _end(self, run: Run, status: str, reason: str) -> None:
        # Another process may find the same dead one.
        retry_on_conflict(partial(self.client.set_tag, run.info.run_id, tags.FAILURE, reason[:TEXT_CHARACTERS]))
        self.client.set_terminated(run.info.run_id, status)

    def _found(self, condition: str, *, order_by: Sequence[str] = (), page: int = 1000) -> Iterator[Run]:
        """The runs that meet the condition, read page by page.

        page: its number of runs. Larger pages cost memory here and on the server; with smaller ones the store sorts all
        runs more often.
        """
        token = None
        while True:
            found = self.client.search_runs(
                [self.experiment_id], condition, max_results=page, order_by=list(order_by), page_token=token
            )
            yield from found
            token = found.token
            if not token:
                break


def _is_dead(run: Run) -> bool:
    """Whether the process that works on an open run has ended, on this machine or, by its heartbeat, on another."""
    beat = float(run.data.tags.get(tags.HEARTBEAT, run.info.start_time / 1e3))
    return is_dead(run.data.tags.get(tags.PROCESS, ""), beat)


def _is_of(fingerprint: str, path: Path) -> bool:
    """Whether a record of an unfinished cell is complete and has this fingerprint."""
    try:
        return bool(json.loads(path.read_text())["fingerprint"] == fingerprint)
    except (OSError, ValueError, KeyError, TypeError):
        return False
