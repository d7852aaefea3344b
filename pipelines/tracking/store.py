"""The tracking store: finding finished cells, opening runs, and closing those of the dead."""

from __future__ import annotations

import gc
import json
import logging
import re
import shlex
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pipelines.cells.targets import current
from pipelines.results.folder import CellFiles, Finished
from pipelines.results.metrics import GAIN, SCORE
from pipelines.results.recorded import RecordedCell
from pipelines.results.records import CellResult
from pipelines.system.checks import did_you_mean
from pipelines.system.errors import StoreError
from pipelines.tracking import moved, schema, view
from pipelines.tracking.address import EMBEDDED_URI, sqlite_path
from pipelines.tracking.artifacts import check_writable
from pipelines.tracking.cell_run import CELL_FOLDER, FOLDER, CellRun
from pipelines.tracking.claims import Claims
from pipelines.tracking.client import connected, retry_on_conflict
from pipelines.tracking.liveness import DEAD_AFTER_S, HEARTBEAT, PROCESS, is_gone, stem

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from pipelines.cells.cell import Cell
    from pipelines.datasets.base import ImageData

log = logging.getLogger(__name__)

PARENT = "mlflow.parentRunId"
# On a sweep's run: what became of its cells.
TABLE = "cells.json"
T = TypeVar("T")
EXPERIMENT_TAGS = {
    "mlflow.note.content": "One run a cell: model x dataset x technique x seed. Sort by "
    f"`{SCORE}`; `{GAIN}` is what the technique was worth against its baseline.",
}


def no_such_experiment(client: MlflowClient, uri: str, name: str) -> StoreError:
    """What is raised where an experiment is asked for that is not there."""
    there = [each.name for each in client.search_experiments()]
    return StoreError(
        f"experiment must be one of {', '.join(there)}, got {name!r}, which is not in {uri}{did_you_mean(name, there)}"
    )


def recorded(run: Run) -> RecordedCell:
    """The cell of a run."""
    tags, inputs = run.data.tags, run.inputs.dataset_inputs if run.inputs else []
    images = {tag.value: one.dataset for one in inputs for tag in one.tags}
    test, training = images.get("testing"), images.get("training")
    return RecordedCell(
        run_id=run.info.run_id,
        started=run.info.start_time,
        name=run.info.run_name,
        digest=test.digest if test else "",
        training_digest=training.digest if training else "",
        test_shape=_shape(test.profile or "{}") if test else (),
        training_shape=_shape(training.profile or "{}") if training else (),
        # The store gives each run strings of its own. What thousands of runs share is kept once.
        params={
            sys.intern(name): sys.intern(current(value) if name.endswith("_target_") else value)
            for name, value in run.data.params.items()
        },
        metrics={sys.intern(name): value for name, value in run.data.metrics.items()},
        **{
            name: sys.intern(tags.get(name, ""))
            for name in (
                "model",
                "dataset",
                "technique",
                "source",
                "seed",
                "feasible",
                "hardware",
                "fingerprint",
                "majority",
            )
        },
    )


@lru_cache
def _shape(profile: str) -> tuple[int, ...]:
    """Of a split's images, by what MLflow keeps of it: thousands of runs share a few."""
    return tuple(json.loads(profile).get("features_shape", ()))


def _is_of(fingerprint: str, path: Path) -> bool:
    """Whether a file of an unfinished cell is whole and of this fingerprint."""
    try:
        return bool(json.loads(path.read_text())["fingerprint"] == fingerprint)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _quoted(value: str) -> str:
    """A text in a filter, composed as names are. Raises StoreError for one that no filter of MLflow's can hold."""
    value = unicodedata.normalize("NFC", value)
    if "'" in value and '"' in value:
        raise StoreError(
            f"dataset must not hold quotes of both kinds, got {value!r}: no filter of MLflow's can ask for it"
        )
    return f'"{value}"' if "'" in value else f"'{value}'"


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Without Python's search for cycles: a run of MLflow's is a hundred objects in none, and makes it search often."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _mend(error: Exception) -> str:
    # As MLflow's client words a status; a path or an id may hold such a number too.
    if re.search(r"error code (401|403)\b", str(error)):
        return (
            "give it a user that may write with `export MLFLOW_TRACKING_USERNAME=me MLFLOW_TRACKING_PASSWORD=...`, or "
            "MLFLOW_TRACKING_TOKEN"
        )
    return "mend it, or set tracking.uri to another"


class Store:
    """An experiment in a tracking store. Opening it creates store and experiment where they are missing.

    beside: a run that `mlflow run` opened; its experiment then takes the place of the configured one.
    Raises StoreError where the store cannot be opened.
    """

    def __init__(self, uri: str, experiment: str, *, beside: str | None = None, create: bool = True) -> None:
        if not create:
            schema.check_exists(uri)
        moved.settle(uri, experiment, beside=beside) if create else moved.follow(uri)
        self.uri = uri
        self.experiment = experiment
        import mlflow

        try:
            if create:
                schema.create(uri)
            else:
                schema.check_whole(uri)
            # To make a client is to make the tables where they are missing.
            self.client = connected(uri)
            self.experiment_id: str = (
                self.client.get_run(beside).info.experiment_id
                if beside
                else self._experiment(experiment, create=create)
            )
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"the tracking store {uri} cannot be opened ({error}): {_mend(error)}") from error
        if beside:
            self.experiment = self.client.get_experiment(self.experiment_id).name
        if create:
            mlflow.set_experiment(experiment_id=self.experiment_id)
            self._show()
        self.claims = Claims(self.client)
        self._artifacts_checked = False

    @classmethod
    def existing(cls, uri: str, experiment: str) -> Store:
        """The store for those who only read: nothing is made. Raises StoreError where it or the experiment is not."""
        return cls(uri, experiment, create=False)

    def check_artifacts(self) -> None:
        """Raise StoreError where artifacts cannot be written; asked once."""
        if self._artifacts_checked:
            return
        try:
            check_writable(self.client.get_experiment(self.experiment_id), self.uri)
        except PermissionError as error:
            raise StoreError(str(error)) from error
        self._artifacts_checked = True

    def find(self, *, since: int = 0, **tags: str) -> str | None:
        """The id of the newest finished run with these tags whose result is still there; None where there is none.

        since: milliseconds since 1970; runs that began before do not count.
        """
        wanted = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
        runs = self.client.search_runs(
            [self.experiment_id],
            f"{wanted} and attributes.status = 'FINISHED' and attributes.start_time >= {since}",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not runs:
            return None
        run_id: str = runs[0].info.run_id
        try:
            self.result(run_id)
        except StoreError as error:
            log.warning("%s: its cell is run again", error)
            return None
        return run_id

    def unfinished(self, *, fingerprint: str, since: int = 0) -> CellFiles | None:
        """What is left on this machine of the newest cell of this fingerprint that did not finish after its training.

        Ask while holding the claim of the fingerprint: nobody else works on such a cell then. since: as for `find`.
        """
        runs = self.client.search_runs(
            [self.experiment_id],
            f"tags.fingerprint = '{fingerprint}' and attributes.status != 'FINISHED' "
            f"and attributes.start_time >= {since}",
            order_by=["attributes.start_time DESC"],
        )
        for run in runs:
            files = CellFiles(Path(run.data.tags.get(FOLDER, "/nowhere")))
            if any(_is_of(fingerprint, path) for path in (files.result, files.build, files.trained)):
                return files
        return None

    def result(self, run_id: str) -> CellResult:
        """The record of a finished cell. Raises StoreError where it is lost or of another version."""
        return self._opened(run_id, lambda: CellResult.load(self._downloaded(run_id, "/result.json")))

    def open(self, run_id: str) -> Finished:
        """A finished cell with all its files at hand. Raises StoreError where they are lost or of another version."""
        return self._opened(run_id, lambda: Finished.load(self._downloaded(run_id)))

    def exported_model(self, run_id: str) -> Path:
        """The artifact of a finished cell, at hand as long as this store is. Raises StoreError where it is lost."""
        return self._opened(run_id, lambda: self._downloaded(run_id, f"/{CellFiles(Path()).exported_model.name}"))

    def load(self, uri: str) -> Finished:
        """The finished cell of the run `runs:/<run id>`. Raises StoreError where it cannot be had or learnt from."""
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
        """Every finished cell of the experiment, of one dataset or of all. condition: a filter in MLflow's syntax.

        Raises StoreError where the store does not understand the filter.
        """
        import mlflow

        wanted = ["attributes.status = 'FINISHED'", "tags.fingerprint != ''"]
        wanted += [f"tags.dataset = {_quoted(dataset)}"] if dataset is not None else []
        wanted += [condition] if condition else []
        try:
            with _no_collecting():
                return [recorded(run) for run in self._found(" and ".join(wanted))]
        except mlflow.MlflowException as error:
            raise StoreError(f"the filter {condition!r} must be one of MLflow's, which says: {error}") from error

    def cells_of_sweep(self, parent: str) -> list[str]:
        """The run ids of a sweep's cells, those that it reused too. Raises StoreError where it is no ended sweep."""
        import mlflow

        try:
            table = mlflow.artifacts.load_dict(f"runs:/{parent}/{TABLE}")
        except (OSError, ValueError, mlflow.MlflowException) as error:
            raise StoreError(f"{parent!r} must be the run of a sweep that has ended ({error})") from error
        at = table["columns"].index("run_id")
        return [row[at] for row in table["data"] if row[at]]

    def newest_sweep(self) -> str:
        """The run id of the sweep that ended last in the experiment. Raises StoreError where there is none."""
        runs = self.client.search_runs(
            [self.experiment_id],
            "tags.sweep != '' and attributes.status != 'RUNNING'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not runs:
            raise StoreError(f"no sweep is recorded in experiment {self.experiment!r} of {self.uri}: run one with -m")
        return str(runs[0].info.run_id)

    @contextmanager
    def run(
        self,
        cell: Cell,
        data: ImageData,
        folder: Path,
        *,
        run_id: str | None = None,
        parent: str | None = None,
        **tags: str,
    ) -> Iterator[CellRun]:
        """A run for `cell`, ended as FINISHED, as FAILED with the traceback, or as KILLED on an interrupt.

        folder: the cell's, which receives `run.json`, the run's address. run_id: a run that was opened already and is
        adopted. parent: the run of the sweep it belongs to.
        """
        tags |= {FOLDER: str(folder.resolve())} | ({PARENT: parent} if parent else {})
        with CellRun.opened(
            self.client, uri=self.uri, experiment=self.experiment, folder=folder, run_id=run_id, tags=tags
        ) as run:
            run.start(cell, data)
            yield run

    @contextmanager
    def resumed(
        self, run_id: str, cell: Cell, data: ImageData, folder: Path, tags: Mapping[str, str]
    ) -> Iterator[CellRun]:
        """The run of a finished cell that was not recorded whole, or a new one if the store has lost it.

        Raises StoreError while the process that computed the cell may still record it.
        """
        import mlflow

        known = True
        try:
            there = self.client.get_run(run_id)
        except mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            known = False
        else:
            process = there.data.tags.get(PROCESS, "")
            if there.info.status == "RUNNING" and not is_gone(process):
                raise StoreError(f"its run {run_id} is still being recorded by the process {process}: let it finish")
        with CellRun.opened(
            self.client,
            uri=self.uri,
            experiment=self.experiment,
            folder=folder,
            run_id=run_id if known else None,
            tags=tags,
            monitored=False,
        ) as run:
            if not known:
                run.start(cell, data)
            yield run

    def failure(self, parent: str, fingerprint: str) -> str | None:
        """Why the cell with this fingerprint failed in the sweep `parent`; None if it did not."""
        condition = f"tags.fingerprint = '{fingerprint}' and tags.`{PARENT}` = '{parent}'"
        runs = self.client.search_runs(
            [self.experiment_id], f"{condition} and attributes.status = 'FAILED'", max_results=1
        )
        return runs[0].data.tags.get("failure", "no reason is recorded") if runs else None

    def started(self, run_id: str) -> int:
        """When a run began, in milliseconds since 1970."""
        return int(self.client.get_run(run_id).info.start_time)

    def close(self, pid: int, reason: str, log_path: Path | None) -> list[str]:
        """Mark the runs that a dead process of this machine left RUNNING as FAILED; gives their ids.

        log_path: its output, which becomes an artifact of each.
        """
        left = list(self._found(f"attributes.status = 'RUNNING' and tags.{PROCESS} LIKE '{stem(pid)}%'"))
        for run in left:
            if log_path is not None:
                self.client.log_artifact(run.info.run_id, str(log_path))
            self._end(run, "FAILED", reason)
        return [run.info.run_id for run in left]

    def close_dead(self) -> int:
        """End the runs that the dead left RUNNING as KILLED, and delete their claims; gives the number of runs."""
        closed = 0
        for run in list(self._found(f"attributes.status = 'RUNNING' and tags.{PROCESS} != ''")):
            process = run.data.tags[PROCESS]
            silent_s = time.time() - float(run.data.tags.get(HEARTBEAT, run.info.start_time / 1e3))
            # Clocks of two machines differ: the limit for one's silence is wide.
            if is_gone(process) or silent_s > 10 * DEAD_AFTER_S:
                self._end(run, "KILLED", f"the process that worked on it ({process}) ended without closing it")
                closed += 1
        self.claims.clear_dead()
        return closed

    @property
    def embedded(self) -> bool:
        """Whether this is the store under `mlruns/`, which `make ui` serves."""
        return self.uri == EMBEDDED_URI

    def link(self, run_id: str) -> str:
        """Where the run is in MLflow's UI: on its server, else as `make ui` serves it."""
        return f"{self._host}/#/experiments/{self.experiment_id}/runs/{run_id}"

    @property
    def list_link(self) -> str:
        """Where all runs are in MLflow's UI, with the columns that matter, the fittest first."""
        return view.link(self._host, self.experiment_id)

    @property
    def _host(self) -> str:
        return self.uri.rstrip("/") if self.uri.startswith("http") else "http://127.0.0.1:5000"

    def _end(self, run: Run, status: str, reason: str) -> None:
        self.client.set_tag(run.info.run_id, "failure", reason[:5000])
        self.client.set_terminated(run.info.run_id, status)

    def _found(self, condition: str) -> Iterator[Run]:
        """The runs that meet the condition, of which only a page at a time is in memory.

        A larger page costs memory here and on the server, a smaller one has the store sort all runs more often.
        """
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], condition, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _opened(self, run_id: str, read: Callable[[], T]) -> T:
        import mlflow

        try:
            return read()
        except (OSError, ValueError, KeyError, TypeError, mlflow.MlflowException) as error:
            raise StoreError(f"the files of run {run_id} are lost or of another version ({error})") from error

    def _downloaded(self, run_id: str, below: str = "") -> Path:
        import mlflow

        uri: str = self.client.get_run(run_id).info.artifact_uri
        if urlsplit(uri).scheme in ("", "file"):
            # The store's own file. By a run's id MLflow would copy it to a folder that stays when the process is gone.
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{CELL_FOLDER}{below}"))
        place = Path(self._temporary.name, run_id)
        place.mkdir(exist_ok=True)
        return Path(
            mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=CELL_FOLDER + below, dst_path=str(place))
        )

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="opscore-")

    def _show(self) -> None:
        """Tell MLflow's UI what the experiment is and which columns to open with, unless it says so already."""
        tags = self.client.get_experiment(self.experiment_id).tags
        for key, value in {**EXPERIMENT_TAGS, view.TAG: view.state()}.items():
            if key not in tags or (key == view.TAG and tags[key] != value):
                retry_on_conflict(partial(self.client.set_experiment_tag, self.experiment_id, key, value))

    def _experiment(self, name: str, *, create: bool) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise StoreError(
                f"the experiment {name!r} of {self.uri} was deleted: bring it back with `MLFLOW_TRACKING_URI="
                f"{shlex.quote(self.uri)} mlflow experiments restore -x {found.experiment_id}`, or choose another with "
                "tracking.experiment="
            )
        if found is not None:
            return str(found.experiment_id)
        if not create:
            raise no_such_experiment(self.client, self.uri, name)
        # MLflow would put the artifacts into the folder that the command happens to stand in.
        database = sqlite_path(self.uri)
        location = (database.resolve().parent / "artifacts").as_uri() if database is not None else None
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except Exception:
            # Another process may have been faster by a moment.
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)
