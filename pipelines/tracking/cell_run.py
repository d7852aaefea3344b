"""The MLflow run of one cell. Recording can be broken off and repeated without sending anything twice."""

from __future__ import annotations

import json
import logging
import shlex
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cells.cell import describe, parts_of
from pipelines.cells.plan import content
from pipelines.results.json_record import Record
from pipelines.results.metrics import FILE_HASH, flatten, metrics_of, of_epoch
from pipelines.system import guard, stopwatch
from pipelines.system.errors import StoreError
from pipelines.system.places import PACKAGE
from pipelines.system.runtime import hardware_name
from pipelines.tracking import view
from pipelines.tracking.client import TEXT_CHARACTERS, logged_models, retries, retry_on_conflict
from pipelines.tracking.liveness import Pulse, beat_now, process_id
from pipelines.tracking.tags import (
    BASELINE,
    CODE,
    DELEGATED,
    FAILURE,
    FINGERPRINT,
    FOLDER,
    HEARTBEAT,
    LITERT,
    MAJORITY,
    NOTE,
    PROCESS,
    RESULT_KEY,
    TRAINED_ON,
)

if TYPE_CHECKING:
    from pipelines.cells.cell import Cell
    from pipelines.datasets.base import ImageData, Split
    from pipelines.results.folder import Finished
    from pipelines.tracking.store import Store

log = logging.getLogger(__name__)

CELL_FOLDER = "cell"
# MLflow's limit for the digest of a dataset. It takes two datasets of one name and digest as the same.
DIGEST_CHARACTERS = 32
# The tags `hardware` and `feasible` of a cell that is not measured.
NOT_MEASURED = "not measured"
# How long at least no epoch is sent after the store failed to take one, so that training does not wait for each.
QUIET_S = 60.0
# A server that takes requests and does not answer them costs a training at most this fraction of its time.
MAX_WAITING = 0.05


@dataclass(frozen=True, kw_only=True)
class RunReceipt(Record):
    """The run of a cell's folder, in a file next to that folder.

    recorded: whether the run is complete. keys: the tags by which the cell is found. images: the digest of its images.
    """

    uri: str
    experiment: str
    run_id: str
    recorded: bool
    keys: dict[str, str]
    images: str

    @staticmethod
    def path(folder: Path) -> Path:
        """The file next to the cell's folder."""
        return folder.with_name(f"{folder.name}.run.json")


def keys_of(folder: Path, *, fingerprint: str, result_key: str, code: str, baseline: str) -> dict[str, str]:
    """The tags by which a cell is found and told apart.

    result_key, code: of its plan. baseline: the fingerprint of its baseline, empty where it has none.
    """
    keys = {FINGERPRINT: fingerprint, RESULT_KEY: result_key, FOLDER: str(folder.resolve())}
    return keys | ({CODE: code} if code else {}) | ({BASELINE: baseline} if baseline else {})


def _storable(value: object) -> object:
    """A parameter that every store takes: with marks for the bytes of a path that are not UTF-8."""
    return value.encode(errors="surrogateescape").decode(errors="replace") if isinstance(value, str) else value


def _files_of(cell: Cell, params: Mapping[str, object]) -> dict[str, str]:
    """FILE_HASH of the models that come from files: its own, and those of teachers or donors, by their places."""
    found: dict[str, str] = {}
    for name in params:
        if name.endswith("model._target_"):
            model: Any = cell
            for part in name.removesuffix("._target_").split("."):
                model = model[part] if isinstance(model, Mapping) else getattr(model, part)
            files = [content(origin) for origin in model.origin if isinstance(origin, Path)]
            found |= {f"{name.removesuffix('model._target_')}{FILE_HASH}": str(files[0])} if files else {}
    return found


class CellRun:
    """The run of one cell, open while the context of `opened` lasts."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.run_id = run_id
        self._client = store.client
        self._uri = store.uri
        self._quiet_until = 0.0

    @staticmethod
    def tags(cell: Cell) -> dict[str, str]:
        """The tags for people. MLflow shows tags in the order of their first values, so these are set first."""
        source = cell.technique.source_cell
        return {
            **cell.tags,
            "technique": cell.technique.name,
            "seed": str(cell.seed),
            **({"source": cell.source.name if cell.source else str(source.uri)} if source else {}),
            "hardware": NOT_MEASURED,
            "feasible": NOT_MEASURED,
        }

    @classmethod
    @contextmanager
    def opened(
        cls,
        store: Store,
        *,
        folder: Path,
        run_id: str | None,
        tags: Mapping[str, str],
        keys: Mapping[str, str],
        images: str,
        monitored: bool = True,
    ) -> Iterator[CellRun]:
        """Open a run, or `run_id` again, and end it as FINISHED, FAILED with the traceback, or KILLED on an interrupt.

        folder: the cell's, which gets a `RunReceipt` with `keys` and `images`. monitored: whether to log the machine's
        load.
        """
        import mlflow

        mlflow.set_system_metrics_sampling_interval(5)  # type: ignore[no-untyped-call]
        # A run that is opened again has the heartbeat of its former process.
        all_tags = {**tags, PROCESS: process_id(), HEARTBEAT: beat_now()}
        active = mlflow.start_run(run_id=run_id, log_system_metrics=monitored, tags=all_tags)
        run = cls(store, active.info.run_id)
        receipt = RunReceipt(
            uri=store.uri, experiment=store.experiment, run_id=run.run_id, recorded=False,
            keys=dict(keys), images=images,
        )  # fmt: skip
        with Pulse(lambda beat: store.client.set_tag(run.run_id, HEARTBEAT, beat)):
            try:
                receipt.save(RunReceipt.path(folder))
                yield run
            except BaseException as error:
                if guard.is_interrupt(error):
                    mlflow.end_run("KILLED")
                else:
                    run._fail(error)
                raise
            try:
                mlflow.end_run("FINISHED")
            except Exception as error:
                raise StoreError(
                    f"the store has all of the cell but does not end its run {run.run_id} ({error}): "
                    f"`opscore sync {shlex.quote(str(folder))}` does, once it answers"
                ) from error
        replace(receipt, recorded=True).save(RunReceipt.path(folder))

    def start(self, cell: Cell, data: ImageData) -> None:
        """Record name, parameters and datasets, which are known before anything is computed."""
        import mlflow

        params = {name: _storable(value) for name, value in flatten(parts_of(cell))}
        with guard.whole():
            self._client.set_tag(self.run_id, "mlflow.runName", cell.name)
            mlflow.log_params(params | _files_of(cell, params))
            self._log_dataset(cell, data.train, "training")
            self._log_dataset(cell, data.test, "testing")

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Send an epoch during training. A store that does not answer neither ends nor slows the training."""
        if time.monotonic() < self._quiet_until:
            return
        began = time.monotonic()
        with guard.whole(), stopwatch.part("record"), retries(0):
            try:
                self._send_epoch(epoch, metrics)
            except Exception as error:  # noqa: BLE001 (whatever the store's client raises, the work goes on)
                ended = time.monotonic()
                self._quiet_until = ended + max(QUIET_S, (ended - began) / MAX_WAITING)
                log.warning("epoch %d is not in MLflow yet (%s): it is sent again at the end", epoch, error)

    def record(self, finished: Finished, data: ImageData) -> None:
        """Record the metrics, tags, files and pyfunc model of a finished cell, as far as the run lacks them.

        Raises StoreError where the store refuses.
        """
        try:
            self._record(finished, data)
        except Exception as error:
            raise StoreError(
                f"the cell is finished and its files are in {finished.files.folder}, but they could not be recorded "
                f"in {self._uri} ({error}): once it takes them, send them with "
                f"`opscore sync {shlex.quote(str(finished.files.folder.parent))}`"
            ) from error

    def record_breakdown(self, finished: Finished) -> None:
        """Record where the cell's time went, if that is known, on a run that has ended.

        A failure costs only these figures.
        """
        try:
            self._record_breakdown(finished)
        except Exception as error:  # noqa: BLE001 (whatever the store's client raises, the cell is recorded)
            log.warning("the store does not have where the time of %s went (%s)", finished.files.folder, error)

    def _record_breakdown(self, finished: Finished) -> None:
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
        recorded = self._client.get_run(self.run_id).data
        if FAILURE in recorded.tags:
            self._client.delete_tag(self.run_id, FAILURE)
        metrics = metrics_of(result)
        # MLflow shows metrics in the order of their first values.
        # A technique's own may have the name of a column.
        columns = view.rounded(metrics)
        metrics = columns | metrics | columns
        mlflow.log_metrics({name: value for name, value in metrics.items() if name not in recorded.metrics})
        tags = {"hardware": hardware_name(result.hardware), NOTE: note(result)}
        tags |= {"precision": result.precision} if result.precision else {}
        tags |= {MAJORITY: result.majority.answer} if result.majority else {}
        tags |= {DELEGATED: result.delegation.text()} if result.delegation else {}
        tags |= {TRAINED_ON: result.timing.trained_on} if result.timing.trained_on else {}
        tags[LITERT] = result.hardware["ai-edge-litert"]
        mlflow.set_tags(tags | {"feasible": result.feasible})
        logged = {artifact.path for artifact in self._client.list_artifacts(self.run_id)}
        if CELL_FOLDER in logged:
            self._send_missing_files(finished.files.folder)
        else:
            mlflow.log_artifacts(str(finished.files.folder), CELL_FOLDER)
        for path in sorted(finished.files.tables.glob("*.json")):
            # As MLflow's own kind of table, which its UI shows. MLflow would append to an existing one.
            if path.name not in logged:
                mlflow.log_table(json.loads(path.read_text()), path.name)
        if not self._has_model():
            self._log_model(finished, data)

    def _send_missing_files(self, folder: Path) -> None:
        """Send the files of the cell that the run lacks, or has in another size, as where it was broken off."""
        sizes: dict[Path, dict[str, int | None]] = {}
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            place = Path(CELL_FOLDER, path.relative_to(folder))
            if place.parent not in sizes:
                listed = self._client.list_artifacts(self.run_id, str(place.parent))
                sizes[place.parent] = {one.path: one.file_size for one in listed}
            if sizes[place.parent].get(str(place)) != path.stat().st_size:
                self._client.log_artifact(self.run_id, str(path), str(place.parent))

    def _has_model(self) -> bool:
        return any(str(one.status) == "READY" for one in logged_models(self._client, self.run_id))

    def _log_model(self, finished: Finished, data: ImageData) -> None:
        """Log the exported model as a pyfunc that needs only LiteRT and NumPy."""
        import mlflow

        from pipelines.tracking.serving import needed_code, signature

        requirements = [f"{name}=={metadata.version(name)}" for name in ("mlflow", "ai-edge-litert", "numpy")]
        with needed_code() as code:
            mlflow.pyfunc.log_model(
                name="model",
                python_model=str(PACKAGE / "tracking" / "serving.py"),
                artifacts={"artifact": str(finished.files.exported_model)},
                code_paths=[str(code)],
                signature=signature(data.image_shape, len(data.class_names)),
                input_example=data.test.images[:2],
                pip_requirements=requirements,
            )

    def _fail(self, error: BaseException) -> None:
        """End the run as FAILED, with the reason as a tag and the traceback as an artifact."""
        import mlflow

        # If the store did not answer, do not wait for it once more.
        with retries(0) if isinstance(error, StoreError | ConnectionError) else nullcontext():
            try:
                mlflow.set_tag(FAILURE, f"{type(error).__name__}: {error}"[:TEXT_CHARACTERS])
                mlflow.log_text("".join(traceback.format_exception(error)), "traceback.txt")
            except Exception as second:  # noqa: BLE001 (the first error is the one to report)
                log.warning("the failure could not be recorded in MLflow: %s", second)
            finally:
                # MLflow ends a run that is left open as FINISHED.
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
        # All metrics of an epoch are sent in one call, so one of them shows whether the epoch was sent.
        sent = self._client.get_metric_history(self.run_id, of_epoch(next(iter(epochs[0]))))
        steps = {point.step for point in sent}
        for epoch, metrics in enumerate(epochs, start=1):
            if epoch not in steps:
                self._send_epoch(epoch, metrics)
