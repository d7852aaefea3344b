"""MLflow's model registry: the versions of `opscore-<dataset>`, their aliases champion and previous, and their files.

Names that begin with `opscore-claim-` belong to `pipelines.tracking.claims`, and no dataset may have one.
"""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.results.files import MODEL
from pipelines.results.metrics import ACCURACY, SCORE, SCORES
from pipelines.results.promotion import ANEW, GATE, OF_RUNTIME, OF_TARGET, OF_THREADS, TRAIN_TIME_NOTE
from pipelines.results.recorded_cell import RecordedCell
from pipelines.system import names
from pipelines.system.digests import sha256
from pipelines.system.errors import StoreError
from pipelines.tracking import experiment, tags
from pipelines.tracking.address import place_options, store_option
from pipelines.tracking.cell_of_run import cell_of
from pipelines.tracking.client import TEXT_CHARACTERS, existing, logged_models
from pipelines.tracking.run_files import RunFiles

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, PREVIOUS = "champion", "previous"
PREFIX = "opscore-"
SHA256 = f"{tags.PREFIX}artifact_sha256"
# Reasons that not every promotion has, by name or by the beginning of the name: those of an earlier one are removed.
OPTIONAL = (OF_TARGET, OF_RUNTIME, OF_THREADS, TRAIN_TIME_NOTE)
OPTIONAL_PREFIXES = (GATE, SCORES)
# The exported model in the logged pyfunc.
_SERVED = f"artifacts/{MODEL}"


def model_name(dataset: str) -> str:
    """`opscore-<dataset>`. Raises ValueError for a name that MLflow or its `models:/` addresses refuse."""
    try:
        dataset = names.resolved("dataset", dataset, "")
        names.check_dataset("dataset", dataset)
    except ValueError as error:
        fault, _, _ = str(error).rpartition(": set ")
        raise ValueError(
            f"{fault}: run its cells once more with {names.override('dataset.name', dataset)}, which trains nothing, "
            "and give that name"
        ) from error
    return f"{PREFIX}{dataset}"


@dataclass(frozen=True, kw_only=True)
class Version:
    """A version of a registered model. run_id: the run of its cell."""

    number: str
    run_id: str
    tags: dict[str, str]

    @property
    def sha256(self) -> str:
        """SHA-256, in hexadecimal, of the exported model that was promoted; empty where opscore did not register it."""
        return self.tags.get(SHA256, "")


class Registry(RunFiles):
    """The model registry of a tracking store.

    client: of that store, where one is open. named: the address that the command was given, for commands in refusals;
    None where it took the default. Raises StoreError where there is no store at `uri`.
    """

    def __init__(self, uri: str, client: MlflowClient | None = None, *, named: str | None = None) -> None:
        super().__init__(client or experiment.reading_client(uri))
        self.uri = uri
        self._named = named

    def aliased(self, name: str, alias: str) -> Version | None:
        """The version with the alias; None where no version has it, or the version was deleted."""
        number = self.aliases(name).get(alias)
        return None if number is None else self.version(name, number)

    def aliases(self, name: str) -> dict[str, str]:
        """Version numbers by alias; empty where nothing is registered under that name."""
        model = existing(lambda: self.client.get_registered_model(name))
        return {alias: str(number) for alias, number in model.aliases.items()} if model else {}

    def datasets(self) -> set[str]:
        """The datasets that have a champion."""
        found = self.client.search_registered_models(f"name LIKE '{PREFIX}%'")
        return {model.name.removeprefix(PREFIX) for model in found if CHAMPION in model.aliases}

    def version(self, name: str, number: str) -> Version | None:
        """A version by its number; None where it was deleted."""
        found = existing(lambda: self.client.get_model_version(name, number))
        return _version(found) if found else None

    def versions(self, name: str) -> list[Version]:
        """All existing versions, by ascending number."""
        found = map(_version, self.client.search_model_versions(f"name = '{name}'"))
        return sorted(found, key=lambda one: int(one.number))

    def champion_cell(self, version: Version) -> RecordedCell:
        """The cell of the champion's version, of whichever experiment. Raises StoreError where it is lost."""
        if not version.run_id:
            raise StoreError(
                f"version {version.number}, the champion, must be the model of a run, got none, so that nothing can be "
                f"compared with it: {ANEW}"
            )
        run = existing(lambda: self.client.get_run(version.run_id))
        if run is not None and run.info.lifecycle_stage != "deleted":
            found = cell_of(run)
            if not found.fingerprint or not {ACCURACY, SCORE} <= found.metrics.keys():
                raise StoreError(
                    f"version {version.number}, the champion, must be of a cell that opscore has finished, got run "
                    f"{version.run_id}, so that nothing can be compared with it: {ANEW}"
                )
            return found
        # The address is not repeated where it holds a user's name.
        store = "" if "@" in self.uri else f"MLFLOW_TRACKING_URI={shlex.quote(self.uri)} "
        restore = f"bring it back with `{store}mlflow runs restore --run-id {version.run_id}`, or " if run else ""
        raise StoreError(
            f"the run {version.run_id} of version {version.number}, the champion, is lost, so that nothing can be "
            f"compared with it: {restore}{ANEW}"
        )

    def promote(
        self,
        name: str,
        run_id: str,
        *,
        reasons: Mapping[str, str],
        description: str,
        about: str,
        is_own: Callable[[str], bool],
        instead_of: str | None,
    ) -> Version:
        """Make the run's model the champion, and the current champion the previous one.

        instead_of: the number of the champion that the run was compared with, None for none. reasons: become tags of
        the version. description: of the version. about: the description of the registered model, which replaces one
        that `is_own` and none that a person wrote.

        A run that is a version already is not registered again, but its reasons and description are replaced. An
        interrupted call leaves a champion where there was one, and may be repeated. Raises StoreError where the run
        has no model, or another promotion was faster.
        """
        champion = self._unchanged(name, instead_of)
        made = self._version_of(name, run_id) or self._registered(name, run_id)
        for key in made.tags.keys() - reasons.keys():
            if key in OPTIONAL or key.startswith(OPTIONAL_PREFIXES):
                self.client.delete_model_version_tag(name, made.number, key)
        for key, value in reasons.items():
            self.client.set_model_version_tag(name, made.number, key, value[:TEXT_CHARACTERS])
        self.client.update_model_version(name, made.number, description[:TEXT_CHARACTERS])
        written = self.client.get_registered_model(name).description or ""
        if not written or is_own(written):
            self.client.update_registered_model(name, about[:TEXT_CHARACTERS])
        self._unchanged(name, instead_of)
        if champion is not None and champion.number != made.number:
            self.client.set_registered_model_alias(name, PREVIOUS, champion.number)
        # Last, and in one step, so that there is always a champion, and one with all its tags.
        self.client.set_registered_model_alias(name, CHAMPION, made.number)
        return made

    def _unchanged(self, name: str, number: str | None) -> Version | None:
        """The champion. Raises StoreError where it is not the version of this number any more."""
        champion = self.aliased(name, CHAMPION)
        if (champion.number if champion else None) != number:
            now = f"version {champion.number}" if champion else "none"
            raise StoreError(
                f"the {CHAMPION} of {name} must be {f'version {number}' if number else 'none'} still, got {now}, which "
                "another command has made it meanwhile: repeat this one, which then compares with it"
            )
        return champion

    def point(self, name: str, *, champion: str, previous: str | None) -> None:
        """Give the aliases to these versions; without a previous one, remove the alias previous.

        The champion comes first, so that an interrupted call has put the requested version into operation.
        """
        self.client.set_registered_model_alias(name, CHAMPION, champion)
        if previous is not None:
            self.client.set_registered_model_alias(name, PREVIOUS, previous)
        elif PREVIOUS in self.aliases(name):
            self.client.delete_registered_model_alias(name, PREVIOUS)

    def download(self, name: str, version: Version, folder: Path) -> Path:
        """Download the exported model that MLflow serves. Raises StoreError where it is not the one promoted."""
        import mlflow

        expected = version.sha256
        if not expected:
            raise StoreError(
                f"version {version.number} of {name} must have the tag {SHA256}, got none, as opscore did not register "
                f"it: {self._another(name, version)}"
            )
        try:
            uri = f"models:/{name}/{version.number}/{_SERVED}"
            path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
        except Exception as error:  # The clients of S3 and others raise their own.
            raise StoreError(
                f"the exported model of version {version.number} of {name} is lost ({error}): "
                f"{self._another(name, version)}"
            ) from error
        found = sha256(path)
        if found != expected:
            raise StoreError(
                f"the exported model of version {version.number} of {name} must have the SHA-256 {expected}, got "
                f"{found}, so it is not the one that was promoted: {self._another(name, version)}"
            )
        return path

    def option(self, name: str) -> str:
        """The options that choose the dataset of a registered model here, quoted for a shell."""
        return shlex.join(["--dataset", name.removeprefix(PREFIX)]) + store_option(self._named)

    def place(self, run_id: str) -> str:
        """The options by which a command finds the cell of a run."""
        return place_options(self.experiment(run_id), self._named)

    def experiment(self, run_id: str) -> str:
        """The name of the experiment of a run."""
        name: str = self.client.get_experiment(self.client.get_run(run_id).info.experiment_id).name
        return name

    def _another(self, name: str, version: Version) -> str:
        """The mend where a version's exported model cannot be used."""
        champion = self.aliased(name, CHAMPION)
        if champion is not None and champion.number != version.number:
            return (
                f"the {CHAMPION}, version {champion.number}, is another, and `opscore pull {self.option(name)}` gets it"
            )
        others = [one.number for one in self.versions(name) if one.number != version.number and one.sha256]
        if not others:
            return f"promote another cell with `opscore promote {self.option(name)} --anew`"
        return f"return to another with `opscore rollback {self.option(name)} --version {others[-1]}`"

    def _version_of(self, name: str, run_id: str) -> Version | None:
        found = self.client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
        # Only another program can have registered a run twice.
        return _version(max(found, key=lambda one: int(one.version))) if found else None

    def _registered(self, name: str, run_id: str) -> Version:
        import mlflow

        models = logged_models(self.client, run_id)
        ready = [one for one in models if one.name == "model" and str(one.status) == "READY"]
        if not ready:
            mend = (
                "complete it with `opscore sync`"
                if models
                else "it was deleted; run its cell again with resume=false, or leave it out by the condition "
                f"attributes.run_id != '{run_id}' in --filter"
            )
            raise StoreError(f"run {run_id} must hold a finished model, got none: {mend}")
        # Given the run's address, MLflow would search the models of all runs, and warn about it. It reports success on
        # stderr, which the command does itself.
        with contextlib.redirect_stderr(io.StringIO()):
            return _version(mlflow.register_model(f"models:/{ready[-1].model_id}", name))


def _version(found: ModelVersion) -> Version:
    return Version(number=str(found.version), run_id=found.run_id or "", tags=dict(found.tags))
