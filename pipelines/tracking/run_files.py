"""Finished cells and their files, as MLflow keeps them with a run."""

from __future__ import annotations

import errno
import tempfile
import zipfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from pipelines.litert.labels import labels_of
from pipelines.results.cell_result import CellResult
from pipelines.results.files import LABELS
from pipelines.results.folder import CellFiles, Finished
from pipelines.results.recorded_cell import RecordedCell
from pipelines.system.digests import sha256
from pipelines.system.errors import StoreError
from pipelines.tracking.cell_of_run import cell_of
from pipelines.tracking.cell_run import CELL_FOLDER
from pipelines.tracking.client import existing

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")
# Its folder is empty: only the names of the files count.
NAMES = CellFiles(Path())


class LostFilesError(StoreError):
    """The files of a run are not there any more, or cannot be understood."""


def _withheld(run_id: str, error: Exception) -> StoreError:
    return StoreError(f"the store has the files of run {run_id} but does not give them ({error})")


def _right(path: Path) -> npt.NDArray[np.bool_]:
    with np.load(path, allow_pickle=False) as arrays:
        right: npt.NDArray[np.bool_] = arrays["logits"].argmax(axis=1) == arrays["labels"]
    return right


class RunFiles:
    """Reads runs and their files, in place where the store is on this machine.

    Downloads are kept as long as this object.

    Every method raises LostFilesError where the files are lost or of another version, and StoreError where the store
    has them and does not give them now.
    """

    def __init__(self, client: MlflowClient) -> None:
        self.client = client
        self._right: dict[str, npt.NDArray[np.bool_]] = {}

    def cell(self, run_id: str) -> RecordedCell:
        """The cell of a run, of whichever experiment. A run that a person deleted still has it."""
        run = existing(lambda: self.client.get_run(run_id))
        if run is None:
            raise LostFilesError(f"the run {run_id} is lost")
        return cell_of(run)

    def result(self, run_id: str) -> CellResult:
        """The record of a finished cell."""
        return self.read(run_id, f"/{NAMES.result}", CellResult.load)

    def open(self, run_id: str) -> Finished:
        """A finished cell with all its files."""
        return self.read(run_id, "", Finished.load)

    def right(self, cell: RecordedCell) -> npt.NDArray[np.bool_]:
        """Which test images a cell's exported model gets right: bool (n,), in the dataset's order.

        It is read once: a shortlist compares several cells with one.
        """
        if cell.run_id not in self._right:
            self._right[cell.run_id] = self.read(cell.run_id, f"/{NAMES.predictions}", _right)
        return self._right[cell.run_id]

    def labels(self, run_id: str) -> list[str]:
        """The class names inside a cell's exported model. Raises LostFilesError where it has none, too."""

        def read(path: Path) -> list[str]:
            found = labels_of(path)
            if not found:
                raise ValueError(f"{path.name} has no {LABELS}")
            return list(found)

        return self.read(run_id, f"/{NAMES.exported_model}", read)

    def exported_sha256(self, run_id: str) -> str:
        """SHA-256, in hexadecimal, of a cell's exported model."""
        return sha256(self.exported_model(run_id))

    def exported_model(self, run_id: str) -> Path:
        """The exported model of a finished cell."""
        return self.read(run_id, f"/{NAMES.exported_model}", Path)

    def has_exported_model(self, run_id: str) -> bool:
        """Whether a cell's exported model is there, as far as its store tells."""
        return self._has(run_id, f"{CELL_FOLDER}/{NAMES.exported_model}")

    def read(self, run_id: str, below: str, load: Callable[[Path], T]) -> T:
        """What `load` makes of a file or folder. below: its path in the cell's folder; empty for the folder itself."""
        try:
            path = self._downloaded(run_id, CELL_FOLDER + below)
        except Exception as error:  # The clients of S3 and others raise their own, as where one is not installed.
            if self._has(run_id, CELL_FOLDER + below):
                raise _withheld(run_id, error) from error
            run = existing(lambda: self.client.get_run(run_id))
            if run is not None and "sweep" in run.data.tags:
                raise LostFilesError(f"{run_id} is the run of a sweep, not of a cell: name one of its cells") from error
            raise LostFilesError(f"the files of run {run_id} are lost ({error})") from error
        try:
            return load(path)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            # Of the store's own disk. NumPy's error for a damaged file has no number.
            if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT, errno.ENOTDIR):
                raise _withheld(run_id, error) from error
            raise LostFilesError(f"the files of run {run_id} are lost or of another version ({error})") from error

    def _has(self, run_id: str, path: str) -> bool:
        """Whether a run's artifact is there, as far as its store tells. A store that tells nothing may have it."""
        from mlflow import MlflowException

        try:
            above, _, _ = path.rpartition("/")
            return path in {one.path for one in self.client.list_artifacts(run_id, above or None)}
        except MlflowException as error:
            return bool(error.error_code != "RESOURCE_DOES_NOT_EXIST")
        except Exception:  # noqa: BLE001 (as above)
            return True

    def _downloaded(self, run_id: str, path: str) -> Path:
        import mlflow

        uri: str = self.client.get_run(run_id).info.artifact_uri
        if urlsplit(uri).scheme in ("", "file"):
            # The store's own file. By a run's id MLflow would copy it to a folder that outlives the process.
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{path}"))
        folder = Path(self._temporary.name, run_id)
        folder.mkdir(exist_ok=True)
        return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=path, dst_path=str(folder)))

    @cached_property
    def _temporary(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="opscore-")
