"""MLflow's model registry: the versions of `opscore-<dataset>`, their aliases champion and previous, and their files.

The registry also holds `opscore-claim-...`, entries that go when training ends (pipelines.tracking.claims): no dataset
may be registered under such a name.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipelines.champion.gates import Answers
from pipelines.litert.size import sha256
from pipelines.results.files import MODEL
from pipelines.results.folder import CellFiles
from pipelines.results.recorded import RecordedCell
from pipelines.results.records import CellResult
from pipelines.system import names
from pipelines.system.errors import StoreError
from pipelines.tracking import moved, schema
from pipelines.tracking.cell_run import CELL_FOLDER
from pipelines.tracking.client import connected
from pipelines.tracking.store import Store, no_such_experiment, recorded

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

T = TypeVar("T")
CHAMPION, PREVIOUS = "champion", "previous"
PREFIX = "opscore-"
SHA256 = "artifact_sha256"
# What MLflow takes everywhere it keeps a text of a version.
TEXT_CHARACTERS = 5000
# Where the logged pyfunc keeps its artifact.
_SERVED = f"artifacts/{MODEL}"


def model_name(dataset: str) -> str:
    """`opscore-<dataset>`. Raises ValueError for a name that MLflow, or its `models:/` addresses, do not take."""
    try:
        dataset = names.resolved("dataset", dataset, "")
        names.check_dataset("dataset", dataset)
    except ValueError as error:
        fault, _, _ = str(error).rpartition(": set ")
        raise ValueError(
            f"{fault}: run its cells once more with {names.override('dataset.name', dataset)}, which trains nothing "
            "anew, and name that"
        ) from error
    return f"{PREFIX}{dataset}"


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version of a registered model. run_id: of the cell it was made from."""

    number: str
    run_id: str
    tags: dict[str, str]


class Registry:
    """The model registry of a tracking store. Raises StoreError where there is no store at `uri`."""

    def __init__(self, uri: str) -> None:
        schema.check_exists(uri)
        moved.follow(uri)
        schema.check_whole(uri)
        self.uri = uri
        self.client = connected(uri)

    def check_experiment(self, experiment: str) -> None:
        """Raise StoreError where there is no such experiment, which opening it would make."""
        if self.client.get_experiment_by_name(experiment) is None:
            raise no_such_experiment(self.client, self.uri, experiment)

    def aliased(self, name: str, alias: str) -> Version | None:
        """The version that carries the alias; None where there is none, or it was deleted."""
        number = self.aliases(name).get(alias)
        return None if number is None else self.version(name, number)

    def aliases(self, name: str) -> dict[str, str]:
        """Version numbers by alias; empty where nothing is registered under that name."""
        model = _existing(lambda: self.client.get_registered_model(name))
        return {alias: str(number) for alias, number in model.aliases.items()} if model else {}

    def version(self, name: str, number: str) -> Version | None:
        """A version by its number; None where it was deleted."""
        found = _existing(lambda: self.client.get_model_version(name, number))
        return _version(found) if found else None

    def numbers(self, name: str) -> list[str]:
        """The numbers of all versions that are there, ascending."""
        return [
            str(n) for n in sorted(int(one.version) for one in self.client.search_model_versions(f"name = '{name}'"))
        ]

    def cell(self, version: Version, dataset: str) -> RecordedCell:
        """The cell that a version was made from, of whichever experiment. Raises StoreError where it is lost."""
        import mlflow

        try:
            experiment = self.client.get_experiment(self.client.get_run(version.run_id).info.experiment_id).name
            (found,) = Store.existing(self.uri, experiment).finished_cells(
                dataset, condition=f"attributes.run_id = '{version.run_id}'"
            )
        except (ValueError, mlflow.MlflowException) as error:
            raise StoreError(
                f"the run {version.run_id} of version {version.number}, the champion, is lost, so that nothing can be "
                f"compared with it: {self._restoring(version.run_id)}add --anew to the command to let the best "
                "candidate take its place"
            ) from error
        return found

    def result(self, run_id: str) -> CellResult:
        """The record of a finished cell. Raises StoreError where it is lost."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                return CellResult.load(self._downloaded(run_id, CellFiles(Path()).result.name, Path(folder)))
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(f"the record of run {run_id} is of another version ({error})") from error

    def answers(self, cell: RecordedCell) -> Answers:
        """What a cell's artifact answered to the test images. Raises StoreError where it is lost."""
        with tempfile.TemporaryDirectory() as folder:
            path = self._downloaded(cell.run_id, CellFiles(Path()).predictions.name, Path(folder))
            with np.load(path, allow_pickle=False) as arrays:
                predicted = arrays["logits"].argmax(axis=1)
        return Answers(predicted=predicted, correct=self.result(cell.run_id).measurement.correct)

    def exported_sha256(self, run_id: str) -> str:
        """SHA-256, in hexadecimal, of the artifact that was measured. Raises StoreError where it is lost."""
        with tempfile.TemporaryDirectory() as folder:
            return sha256(self._downloaded(run_id, CellFiles(Path()).exported_model.name, Path(folder)))

    def promote(self, name: str, run_id: str, *, tags: Mapping[str, str], description: str) -> Version:
        """Make the run's model the champion, and the present champion the previous one.

        A run that is a version already is not registered again; its tags and description are written anew. Broken off
        at any point, it leaves a champion where there was one, and may be repeated. Raises StoreError where the run has
        no model.
        """
        champion = self.aliased(name, CHAMPION)
        made = self._version_of(name, run_id) or self._registered(name, run_id)
        for key, value in tags.items():
            self.client.set_model_version_tag(name, made.number, key, value[:TEXT_CHARACTERS])
        self.client.update_model_version(name, made.number, description[:TEXT_CHARACTERS])
        if champion is not None and champion.number != made.number:
            self.client.set_registered_model_alias(name, PREVIOUS, champion.number)
        # Last, and in one step from the old version to the new: there is always a champion, and it has its reasons.
        self.client.set_registered_model_alias(name, CHAMPION, made.number)
        return made

    def point(self, name: str, *, champion: str, previous: str | None) -> None:
        """Give the aliases to these versions; None takes the alias previous away.

        The champion first: broken off here, what is in operation is what was asked for.
        """
        self.client.set_registered_model_alias(name, CHAMPION, champion)
        if previous is not None:
            self.client.set_registered_model_alias(name, PREVIOUS, previous)
        elif PREVIOUS in self.aliases(name):
            self.client.delete_registered_model_alias(name, PREVIOUS)

    def _restoring(self, run_id: str) -> str:
        """How a run is brought back that MLflow still has; empty where it has not."""
        run = _existing(lambda: self.client.get_run(run_id))
        if run is None or run.info.lifecycle_stage != "deleted":
            return ""
        # An address that holds a password is not repeated.
        store = "" if "@" in self.uri else f"MLFLOW_TRACKING_URI={shlex.quote(self.uri)} "
        return f"bring it back with `{store}mlflow runs restore --run-id {run_id}`, or "

    def download(self, name: str, version: Version, folder: Path) -> Path:
        """The artifact, as MLflow serves it, in `folder`. Raises StoreError where it is not the one promoted."""
        import mlflow

        expected = version.tags.get(SHA256)
        if expected is None:
            raise StoreError(
                f"version {version.number} of {name} must carry the tag {SHA256}, got none: it was not registered by "
                "pipelines.promote; promote a cell"
            )
        try:
            uri = f"models:/{name}/{version.number}/{_SERVED}"
            path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
        except (OSError, mlflow.MlflowException) as error:
            raise StoreError(
                f"the artifact of version {version.number} of {name} is lost ({error}): {self._another(name, version)}"
            ) from error
        found = sha256(path)
        if found != expected:
            raise StoreError(
                f"the artifact of version {version.number} of {name} must have the SHA-256 {expected}, got {found}: it "
                f"is not the one that was promoted; {self._another(name, version)}"
            )
        return path

    def recorded(self, run_id: str) -> RecordedCell:
        """The cell of a run, of whichever experiment."""
        return recorded(self.client.get_run(run_id))

    def _another(self, name: str, version: Version) -> str:
        """What can be done where a version's artifact is of no use."""
        others = [number for number in self.numbers(name) if number != version.number]
        dataset = asked(name)
        if not others:
            return f"promote another cell with `python -m pipelines.promote {dataset} --anew`"
        return f"return to another with `python -m pipelines.promote rollback {dataset} version={others[-1]}`"

    def _version_of(self, name: str, run_id: str) -> Version | None:
        found = self.client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        # Of several, which only another program can have made, the newest.
        return _version(max(found, key=lambda one: int(one.version))) if found else None

    def _registered(self, name: str, run_id: str) -> Version:
        import mlflow

        outputs = self.client.get_run(run_id).outputs
        models = [self.client.get_logged_model(one.model_id) for one in outputs.model_outputs] if outputs else []
        ready = [one for one in models if one.name == "model" and str(one.status) == "READY"]
        if not ready:
            raise StoreError(f"run {run_id} must hold a finished model, got none: complete it with `make sync`")
        # By its own address: by the run's, MLflow looks through the models of all runs, and warns that it does. What it
        # says of its success is said by the command.
        with contextlib.redirect_stderr(io.StringIO()):
            return _version(mlflow.register_model(f"models:/{ready[-1].model_id}", name))

    def _downloaded(self, run_id: str, file: str, folder: Path) -> Path:
        import mlflow

        try:
            path: str = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=f"{CELL_FOLDER}/{file}", dst_path=str(folder)
            )
        except (OSError, mlflow.MlflowException) as error:
            raise StoreError(f"{CELL_FOLDER}/{file} of run {run_id} is lost ({error})") from error
        return Path(path)


def asked(name: str) -> str:
    """The argument that names the dataset of a registered model, as it can be pasted into a shell."""
    return shlex.quote(f"dataset={name.removeprefix(PREFIX)}")


def _existing(get: Callable[[], T]) -> T | None:
    """What `get` gives; None where MLflow has no such thing."""
    import mlflow

    try:
        return get()
    except mlflow.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def _version(found: ModelVersion) -> Version:
    return Version(number=str(found.version), run_id=found.run_id or "", tags=dict(found.tags))
