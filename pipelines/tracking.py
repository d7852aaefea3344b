"""Cells in MLflow: the store, a cell's run, and finding a finished cell by its fingerprint."""

from __future__ import annotations

import json
import logging
import os
import socket
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipelines.cell import describe, parts_of
from pipelines.metrics import flatten, metrics_of
from pipelines.records import Finished
from pipelines.runtime import hardware_name

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipelines.cell import Cell
    from pipelines.datasets.base import ImageData, Split

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
EMBEDDED = ROOT / "mlruns"
EMBEDDED_URI = f"sqlite:///{EMBEDDED / 'mlflow.db'}"
CELL_FOLDER = "cell"
EXPERIMENT_TAGS = {
    "mlflow.note.content": "One run a cell: model x dataset x technique x seed. Sort by `score/operational`; "
    "`score/gain_db` is what the technique was worth against its baseline.",
}
# MLflow keeps no more of a dataset's digest, and takes two datasets of one name and digest for the same.
DIGEST_CHARACTERS = 32


def tracking_uri(configured: str | None) -> str:
    """The configured store, else MLFLOW_TRACKING_URI, else the embedded SQLite file under `mlruns/`."""
    return configured or os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED_URI


def check_reachable(uri: str, timeout_s: float = 3.0) -> None:
    """Raise ConnectionError where a tracking server does not answer, ValueError for a plain folder. No MLflow."""
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        raise ValueError(
            f"the tracking store must be a database or a server, got the folder {uri!r}: MLflow's file store is "
            f"deprecated; set tracking.uri={EMBEDDED_URI} or leave it null"
        )
    if parts.scheme in ("http", "https"):
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        try:
            socket.create_connection((parts.hostname or "", port), timeout=timeout_s).close()
        except OSError as error:
            raise ConnectionError(
                f"the MLflow server {uri} does not answer ({error}): start it, or set tracking.uri=null for the "
                "embedded store"
            ) from error


@dataclass(frozen=True, kw_only=True)
class RecordedCell:
    """A finished cell as MLflow lists it, without its files.

    started: milliseconds since 1970. source: the cell that was learnt from beside the origin, empty for most.
    """

    run_id: str
    started: int
    name: str
    model: str
    dataset: str
    technique: str
    source: str
    seed: str
    feasible: str
    metrics: dict[str, float]


class StoreError(RuntimeError):
    """The tracking store refused; what was computed lies in the job's folder."""


class Store:
    """An experiment in a tracking store. Opening it creates store and experiment where they are missing.

    beside: a run that `mlflow run` opened; its experiment then takes the place of the configured one.
    Raises StoreError where the store cannot be opened.
    """

    def __init__(self, uri: str, experiment: str, *, beside: str | None = None) -> None:
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        import mlflow

        # Migrations of a new store and the start of every monitor are no news to anybody.
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.WARNING)
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self.uri = uri
        self.experiment = experiment
        mlflow.set_tracking_uri(uri)
        self.client = mlflow.MlflowClient(uri)
        try:
            self.experiment_id: str = (
                self.client.get_run(beside).info.experiment_id if beside else self._experiment(experiment)
            )
        except Exception as error:
            raise StoreError(
                f"the tracking store {uri} cannot be opened ({error}): mend it, or set tracking.uri to another"
            ) from error
        mlflow.set_experiment(experiment_id=self.experiment_id)

    def find(self, fingerprint: str) -> Finished | None:
        """The newest finished cell with this fingerprint, its files at hand; None where there is none."""
        import mlflow

        runs = self.client.search_runs(
            [self.experiment_id],
            f"tags.fingerprint = '{fingerprint}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not runs:
            return None
        run_id = runs[0].info.run_id
        try:
            return self._load(run_id)
        except (OSError, ValueError, KeyError, TypeError, mlflow.MlflowException) as error:
            log.warning("the files of run %s are lost or of another version (%s): its cell is run again", run_id, error)
            return None

    def load(self, uri: str) -> Finished:
        """The finished cell of the run `runs:/<run id>`. Raises StoreError where it cannot be had or learnt from."""
        import mlflow

        try:
            finished = self._load(uri.removeprefix("runs:/"))
        except (OSError, ValueError, KeyError, TypeError, mlflow.MlflowException) as error:
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

    def _load(self, run_id: str) -> Finished:
        import mlflow

        folder = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=CELL_FOLDER)
        return Finished.load(Path(folder))

    def finished_cells(self, dataset: str | None = None) -> list[RecordedCell]:
        """Every finished cell of the experiment, of one dataset or of all."""
        condition = "attributes.status = 'FINISHED' and tags.fingerprint != ''"
        if dataset is not None:
            condition += f" and tags.dataset = '{dataset}'"
        cells: list[RecordedCell] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment_id], condition, max_results=1000, page_token=token)
            for run in page:
                tags = run.data.tags
                cells.append(
                    RecordedCell(
                        run_id=run.info.run_id,
                        started=run.info.start_time,
                        name=run.info.run_name,
                        model=tags.get("model", ""),
                        dataset=tags.get("dataset", ""),
                        technique=tags.get("technique", ""),
                        source=tags.get("source", ""),
                        seed=tags.get("seed", ""),
                        feasible=tags.get("feasible", ""),
                        metrics=run.data.metrics,
                    )
                )
            token = page.token
            if not token:
                return cells

    @contextmanager
    def run(
        self, cell: Cell, data: ImageData, fingerprint: str, *, run_id: str | None = None, parent: str | None = None
    ) -> Iterator[CellRun]:
        """A run for `cell`, ended as FINISHED, as FAILED with the traceback, or as KILLED on an interrupt.

        run_id: a run that was opened already and is adopted. parent: the run of the sweep it belongs to.
        """
        import mlflow

        mlflow.set_system_metrics_sampling_interval(5)  # type: ignore[no-untyped-call]
        tags = {"mlflow.parentRunId": parent} if parent else {}
        active = mlflow.start_run(run_id=run_id, log_system_metrics=True, tags=tags)
        run = CellRun(self, active)
        try:
            run.start(cell, data, fingerprint)
            yield run
        except KeyboardInterrupt:
            mlflow.end_run("KILLED")
            raise
        except BaseException as error:
            run.fail(error)
            mlflow.end_run("FAILED")
            raise
        mlflow.end_run("FINISHED")

    @property
    def embedded(self) -> bool:
        """Whether this is the store under `mlruns/`, which `make ui` serves."""
        return self.uri == EMBEDDED_URI

    def link(self, run_id: str) -> str:
        """Where the run is in MLflow's UI: on its server, else as `make ui` serves it."""
        host = self.uri.rstrip("/") if self.uri.startswith("http") else "http://127.0.0.1:5000"
        return f"{host}/#/experiments/{self.experiment_id}/runs/{run_id}"

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = (EMBEDDED / "artifacts").as_uri() if self.embedded else None
        return str(self.client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS))


class CellRun:
    """The run of one cell while it goes on."""

    def __init__(self, store: Store, active: Run) -> None:
        self.store = store
        self.run_id: str = active.info.run_id
        self._unsent: list[tuple[int, dict[str, float]]] = []

    def start(self, cell: Cell, data: ImageData, fingerprint: str) -> None:
        """Name, tags, parameters and datasets: known before anything is computed."""
        import mlflow

        self.store.client.set_tag(self.run_id, "mlflow.runName", cell.name)
        mlflow.set_tags(
            {
                "model": cell.model.name,
                "dataset": cell.dataset.name,
                "technique": cell.technique.name,
                "seed": cell.seed,
                "fingerprint": fingerprint,
                **_source_tag(cell),
            }
        )
        mlflow.log_params(dict(flatten(parts_of(cell))))
        self._log_dataset(cell, data.train, "training")
        self._log_dataset(cell, data.test, "testing")

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Show an epoch while training goes on. A store that does not answer must not end the training."""
        self._unsent.append((epoch, {f"train/{name}": value for name, value in metrics.items()}))
        try:
            self._send_epochs()
        except Exception as error:  # noqa: BLE001 (whatever the store's client raises, the work goes on)
            log.warning("epoch %d is not in MLflow yet (%s): it is sent again at the end", epoch, error)

    def record(self, finished: Finished, data: ImageData) -> None:
        """Metrics, tags, the cell's folder with its figures, and the pyfunc model of a finished cell.

        Raises StoreError where the store refuses, with the place of the files.
        """
        try:
            self._record(finished, data)
        except Exception as error:
            raise StoreError(
                f"the cell is finished and its files are in {finished.files.folder}, but they could not be recorded "
                f"in {self.store.uri}: {error}"
            ) from error

    def _record(self, finished: Finished, data: ImageData) -> None:
        import mlflow

        from pipelines.summary import note

        self._send_epochs()
        result = finished.result
        mlflow.log_metrics(metrics_of(result))
        mlflow.set_tags(
            {
                "feasible": result.feasible,
                "hardware": hardware_name(result.hardware),
                "mlflow.note.content": note(result),
            }
        )
        mlflow.log_artifacts(str(finished.files.folder), CELL_FOLDER)
        for path in sorted(finished.files.tables.glob("*.json")):
            # MLflow's own form of a table, which its UI shows as one.
            mlflow.log_table(json.loads(path.read_text()), path.name)
        self._log_model(finished, data)

    def _log_model(self, finished: Finished, data: ImageData) -> None:
        """The artifact as a pyfunc that needs LiteRT and NumPy only, with signature and input example."""
        import mlflow

        from pipelines.serving import signature

        mlflow.pyfunc.log_model(
            name="model",
            python_model=str(ROOT / "pipelines" / "serving.py"),
            artifacts={"artifact": str(finished.files.artifact)},
            code_paths=[str(ROOT / "pipelines")],
            signature=signature(data.image_shape, len(data.class_names)),
            input_example=data.test.images[:2],
            pip_requirements=[f"{name}=={metadata.version(name)}" for name in ("mlflow", "ai-edge-litert", "numpy")],
        )

    def fail(self, error: BaseException) -> None:
        """Why the cell failed: one sentence as a tag, the traceback as an artifact."""
        import mlflow

        try:
            mlflow.set_tag("failure", f"{type(error).__name__}: {error}"[:5000])
            mlflow.log_text("".join(traceback.format_exception(error)), "traceback.txt")
        except Exception as second:  # noqa: BLE001 (the first error is the one to report)
            log.warning("the failure could not be recorded in MLflow: %s", second)

    def _log_dataset(self, cell: Cell, split: Split, context: str) -> None:
        import mlflow
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.numpy_dataset import from_numpy

        source = {key: str(value) for key, value in flatten(describe(cell.dataset))}
        dataset = from_numpy(
            split.images,
            targets=split.labels,
            source=CodeDatasetSource(tags=source),
            name=cell.dataset.name,
            digest=split.digest[:DIGEST_CHARACTERS],
        )
        mlflow.log_input(dataset, context=context)

    def _send_epochs(self) -> None:
        import mlflow

        while self._unsent:
            epoch, metrics = self._unsent[0]
            mlflow.log_metrics(metrics, step=epoch)
            self._unsent.pop(0)


def _source_tag(cell: Cell) -> dict[str, str]:
    learns_from = cell.technique.learns_from
    if learns_from is None:
        return {}
    return {"source": cell.source.name if cell.source else str(learns_from.uri)}
