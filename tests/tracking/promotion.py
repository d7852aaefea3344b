"""A store that tests of promotion change, and what several of them do to it."""

import math
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import DatasetInput, Run

from tests.places import ROOT, logged_data

NAME = "opscore-digits"
BY = "filter=tags.technique = '{}' and params.`score.max_size_mb` = 'None'"
# The three cells that share the default profile; two more have another.
ALL = "filter=params.`score.max_size_mb` = 'None'"
Command = Callable[..., str]


def compared_metrics(run: Run, baseline: Run) -> dict[str, float]:
    """A run's metrics as a comparison has them: its baseline's test time multiplied by its ratio, scored by hand."""
    metrics = dict(run.data.metrics)
    if run.info.run_id != baseline.info.run_id:
        test_ms = baseline.data.metrics["time/test_ms_p50"] * metrics["baseline/time_ratio"]
        # The exponent is 1/4.
        term = -5 * math.log10(test_ms)
        metrics["score/operational"] += term - metrics["score/test_time_db"]
        metrics["score/test_time_db"] = term
        metrics["time/test_ms_p50"] = test_ms
    return metrics


class Copy:
    """The store's database, to be changed; artifacts are shared with all other copies."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        mlflow.set_tracking_uri(self.uri)
        # The command gives its whole process the registry of its own store.
        mlflow.set_registry_uri(self.uri)
        self.client = MlflowClient(self.uri, registry_uri=self.uri)
        (self.experiment,) = [one for one in self.client.search_experiments() if one.name == "mine"]

    def run(self, technique: str, budget: str = "None") -> Run:
        (found,) = [
            run
            for run in self.client.search_runs([self.experiment.experiment_id])
            if run.data.tags.get("technique") == technique and run.data.params["score.max_size_mb"] == budget
        ]
        return found

    def aliases(self) -> dict[str, str]:
        """Runs by alias."""
        model = self.client.get_registered_model(NAME)
        return {
            alias: str(self.client.get_model_version(NAME, number).run_id) for alias, number in model.aliases.items()
        }

    def versions(self) -> dict[str, dict[str, str]]:
        """Tags by version number."""
        return {str(one.version): one.tags for one in self.client.search_model_versions(f"name = '{NAME}'")}

    def state(self) -> Any:
        """All that promoting could change."""
        models = [(one.name, one.aliases, one.description) for one in self.client.search_registered_models()]
        versions = [(one.version, one.tags, one.description) for one in self.client.search_model_versions()]
        runs = [run.to_dictionary() for run in self.client.search_runs([self.experiment.experiment_id])]
        return models, versions, runs, [one.name for one in self.client.search_experiments()]

    def forget(self, run_id: str, *names: str) -> None:
        """Remove metrics of a run, which MLflow's client cannot."""
        with closing(sqlite3.connect(self.uri.removeprefix("sqlite:///"))) as database, database:
            for table, name in product(("metrics", "latest_metrics"), names):
                database.execute(f"DELETE FROM {table} WHERE run_uuid = ? AND key = ?", (run_id, name))

    def clone(
        self,
        run: Run,
        folder: Path,
        *,
        change: Callable[[Path], dict[str, float]],
        experiment: str | None = None,
        **tags: str,
    ) -> str:
        """A finished run like `run`, without a model, with other tags; `change` alters its files and gives metrics.

        experiment: the id of another one to put it into.
        """
        tags = run.data.tags | tags | {"mlflow.runName": "clone"}
        run_id: str = self.client.create_run(experiment or self.experiment.experiment_id, tags=tags).info.run_id
        cell = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="cell"))
        shutil.copytree(cell, folder / "cell")
        for key, number in (run.data.metrics | change(folder / "cell")).items():
            self.client.log_metric(run_id, key, number)
        for key, value in run.data.params.items():
            self.client.log_param(run_id, key, value)
        self.client.log_artifacts(run_id, str(folder / "cell"), "cell")
        self.client.log_inputs(run_id, [DatasetInput(one.dataset, one.tags) for one in logged_data(run)])
        self.client.set_terminated(run_id, "FINISHED")
        return run_id


def two_versions(copy: Copy, opscore: Command) -> tuple[str, str]:
    """The runs of version 1, which is previous, and of version 2, which is champion."""
    opscore("promote", BY.format("baseline"))
    opscore("promote", BY.format("quantize_int8"))
    return copy.run("baseline").info.run_id, copy.run("quantize_int8").info.run_id


def pasted(message: str, uri: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What the command that a sentence offers does in bash."""
    (command,) = re.findall(r"`([^`]*)`", message)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "TF_"))}
    environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment["MLFLOW_TRACKING_URI"] = uri
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
