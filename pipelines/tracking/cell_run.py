"""The MLflow run of one cell: what it holds, and recording it exactly once whatever happens in between."""

from __future__ import annotations

import json
import logging
import os
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cells.cell import describe, parts_of
from pipelines.results.metrics import flatten, metrics_of, of_epoch
from pipelines.system import guard, stopwatch
from pipelines.system.errors import StoreError
from pipelines.system.places import PACKAGE
from pipelines.system.runtime import hardware_name
from pipelines.tracking.client import retry_on_conflict
from pipelines.tracking.liveness import HEARTBEAT, PROCESS, Pulse, identity

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from pipelines.cells.cell import Cell
    from pipelines.datasets.base import ImageData, Split
    from pipelines.results.folder import Finished

log = logging.getLogger(__name__)

CELL_FOLDER = "cell"
# The tag that says where the files of a run's cell are, on the machine of its process.
FOLDER = "folder"
# MLflow keeps no more of a dataset's digest, and takes two datasets of one name and digest for the same.
DIGEST_CHARACTERS = 32
# How long epochs are kept back after the store did not take one, so that training does not wait for it each time.
QUIET_S = 60.0


@dataclass(frozen=True, kw_only=True)
class RunReceipt:
    """Where the run of a cell's folder is, in a file beside that folder. recorded: whether all of it is there."""

    uri: str
    experiment: str
    run_id: str
    recorded: bool

    @staticmethod
    def path(folder: Path) -> Path:
        """The file beside the cell's folder."""
        return folder.with_name(f"{folder.name}.run.json")

    def save(self, folder: Path) -> None:
        """Write the file, whole or not at all."""
        path = self.path(folder)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self)) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, folder: Path) -> RunReceipt:
        """Read the file. Raises OSError, ValueError or TypeError where it is missing or no address."""
        return cls(**json.loads(cls.path(folder).read_text()))


class CellRun:
    """The run of one cell, as long as `opened` lasts."""

    def __init__(self, client: MlflowClient, run_id: str, where: str) -> None:
        self.run_id = run_id
        self._client = client
        self._where = where
        self._quiet_until = 0.0

    @classmethod
    @contextmanager
    def opened(
        cls,
        client: MlflowClient,
        *,
        uri: str,
        experiment: str,
        folder: Path,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        monitored: bool = True,
    ) -> Iterator[CellRun]:
        """Open a run, or `run_id` again, and end it as FINISHED, FAILED with the traceback, or KILLED on an interrupt.

        folder: the cell's; a file beside it says where its run is (`RunReceipt`). monitored: log the machine's load.
        """
        import mlflow

        mlflow.set_system_metrics_sampling_interval(5)  # type: ignore[no-untyped-call]
        own = {PROCESS: identity(), **(tags or {})}
        active = mlflow.start_run(run_id=run_id, log_system_metrics=monitored, tags=own)
        run = cls(client, active.info.run_id, uri)
        RunReceipt(uri=uri, experiment=experiment, run_id=run.run_id, recorded=False).save(folder)
        with Pulse(lambda: client.set_tag(run.run_id, HEARTBEAT, f"{time.time():.0f}")):
            try:
                yield run
            except BaseException as error:
                if guard.is_interrupt(error):
                    mlflow.end_run("KILLED")
                else:
                    run._fail(error)
                raise
            mlflow.end_run("FINISHED")
        RunReceipt(uri=uri, experiment=experiment, run_id=run.run_id, recorded=True).save(folder)

    def start(self, cell: Cell, data: ImageData) -> None:
        """Name, tags, parameters and datasets: known before anything is computed."""
        import mlflow

        self._client.set_tag(self.run_id, "mlflow.runName", cell.name)
        mlflow.set_tags(
            {
                "model": cell.model.name,
                "dataset": cell.dataset.name,
                "technique": cell.technique.name,
                "seed": cell.seed,
                **_source_tag(cell),
            }
        )
        mlflow.log_params(dict(flatten(parts_of(cell))))
        self._log_dataset(cell, data.train, "training")
        self._log_dataset(cell, data.test, "testing")

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Show an epoch while training goes on. A store that does not answer must not end the training, nor slow it."""
        if time.monotonic() < self._quiet_until:
            return
        try:
            with stopwatch.part("record"):
                self._send_epoch(epoch, metrics)
        except Exception as error:  # noqa: BLE001 (whatever the store's client raises, the work goes on)
            self._quiet_until = time.monotonic() + QUIET_S
            log.warning("epoch %d is not in MLflow yet (%s): it is sent again at the end", epoch, error)

    def record(self, finished: Finished, data: ImageData) -> None:
        """Metrics, tags, the cell's folder with its figures, and the pyfunc model of a finished cell.

        What the run has already is not sent twice, so that an upload that broke off can be taken up again.
        Raises StoreError where the store refuses, with the place of the files.
        """
        try:
            self._record(finished, data)
        except Exception as error:
            raise StoreError(
                f"the cell is finished and its files are in {finished.files.folder}, but they could not be recorded "
                f"in {self._where} ({error}): when it answers again, send them with "
                f"`python -m pipelines.sync {finished.files.folder.parent}`"
            ) from error

    def record_breakdown(self, finished: Finished) -> None:
        """Where the cell's time went, if that is known. For a run that has ended: its end is part of the time."""
        import mlflow

        files = finished.files
        if not files.breakdown.exists():
            return
        self._client.log_artifact(self.run_id, str(files.breakdown), CELL_FOLDER)
        if files.breakdown_figure.exists():
            self._client.log_artifact(self.run_id, str(files.breakdown_figure), f"{CELL_FOLDER}/figures")
        if stopwatch.TOTAL not in self._client.get_run(self.run_id).data.metrics:
            seconds = json.loads(files.breakdown.read_text())
            mlflow.log_metrics(stopwatch.metrics(seconds), run_id=self.run_id)

    def _record(self, finished: Finished, data: ImageData) -> None:
        import mlflow

        from pipelines.results.summary import note

        result = finished.result
        self._send_missing_epochs(result.epochs)
        there = self._client.get_run(self.run_id).data
        if "failure" in there.tags:
            self._client.delete_tag(self.run_id, "failure")
        mlflow.log_metrics({name: value for name, value in metrics_of(result).items() if name not in there.metrics})
        mlflow.set_tags(
            {
                "feasible": result.feasible,
                "hardware": hardware_name(result.hardware),
                **({"majority": result.majority.answer} if result.majority else {}),
                "mlflow.note.content": note(result),
            }
        )
        mlflow.log_artifacts(str(finished.files.folder), CELL_FOLDER)
        logged = {exported_model.path for exported_model in self._client.list_artifacts(self.run_id)}
        for path in sorted(finished.files.tables.glob("*.json")):
            # MLflow's own form of a table, which its UI shows as one. To one that is there it would append.
            if path.name not in logged:
                mlflow.log_table(json.loads(path.read_text()), path.name)
        if not self._has_model():
            self._log_model(finished, data)

    def _has_model(self) -> bool:
        outputs = self._client.get_run(self.run_id).outputs
        ids = [one.model_id for one in outputs.model_outputs] if outputs else []
        return any(str(self._client.get_logged_model(one).status) == "READY" for one in ids)

    def _log_model(self, finished: Finished, data: ImageData) -> None:
        """The artifact as a pyfunc that needs LiteRT and NumPy only, with signature and input example."""
        import mlflow

        from pipelines.tracking.serving import needed_code, signature

        requirements = [f"{name}=={metadata.version(name)}" for name in ("mlflow", "ai-edge-litert", "numpy")]
        with needed_code() as code:
            mlflow.pyfunc.log_model(
                name="model",
                python_model=str(PACKAGE / "tracking" / "serving.py"),
                artifacts={"artifact": str(finished.files.exported_model)},
                code_paths=[str(code)],
                signature=signature(len(data.class_names)),
                input_example=data.test.images[:2],
                pip_requirements=requirements,
            )

    def _fail(self, error: BaseException) -> None:
        """End the run as FAILED: why in one sentence as a tag, the traceback as an artifact."""
        import mlflow

        try:
            if isinstance(error, StoreError | ConnectionError):
                # It was tried already; if the store is gone, what follows would wait for it again.
                os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
            mlflow.set_tag("failure", f"{type(error).__name__}: {error}"[:5000])
            mlflow.log_text("".join(traceback.format_exception(error)), "traceback.txt")
        except Exception as second:  # noqa: BLE001 (the first error is the one to report)
            log.warning("the failure could not be recorded in MLflow: %s", second)
        with suppress(Exception):
            mlflow.end_run("FAILED")

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
        retry_on_conflict(lambda: mlflow.log_input(dataset, context=context))

    def _send_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        import mlflow

        mlflow.log_metrics({of_epoch(name): value for name, value in metrics.items()}, step=epoch)

    def _send_missing_epochs(self, epochs: tuple[Mapping[str, float], ...]) -> None:
        if not epochs:
            return
        # All metrics of an epoch are sent in one call, so one of them stands for all.
        sent = self._client.get_metric_history(self.run_id, of_epoch(next(iter(epochs[0]))))
        steps = {point.step for point in sent}
        for epoch, metrics in enumerate(epochs, start=1):
            if epoch not in steps:
                self._send_epoch(epoch, metrics)


def _source_tag(cell: Cell) -> dict[str, str]:
    learns_from = cell.technique.learns_from
    if learns_from is None:
        return {}
    return {"source": cell.source.name if cell.source else str(learns_from.uri)}
