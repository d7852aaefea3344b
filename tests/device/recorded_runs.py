"""A store with runs to measure, and a fast profile."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Run

from pipelines.device.settings import Settings
from pipelines.results.metrics import ACCURACY, SCORE
from tests.places import empty_database

# 5 windows of one process each, a round in each.
FAST = Settings(
    profile="quick", loads=1, starts=1, min_duration_s=0.0, min_calls=5, limit_s=60.0, threads=(1,), batches=(4,)
)

# The command, with a profile that takes seconds.
FAST_COMMAND = """
from dataclasses import replace
from pipelines.commands import cli
from pipelines.device.settings import PROFILES

PROFILES["quick"] = replace(PROFILES["quick"], min_duration_s=0, min_calls=5, starts=1, windows=2)
cli.main()
"""


class RecordedRuns:
    """A store with runs of cells that nobody trained."""

    baseline: str
    int8: str

    def __init__(self, folder: Path, uri: str | None = None, name: str = "mine") -> None:
        self.uri = uri or f"sqlite:///{folder / 'mlflow.db'}"
        if uri is None:
            shutil.copy(empty_database(), folder / "mlflow.db")
        self.client = MlflowClient(self.uri)
        location = None if uri and uri.startswith("http") else (folder / "artifacts").as_uri()
        self.experiment = self.client.create_experiment(name, artifact_location=location)

    def add(self, technique: str, exported_model: Path, **params: str) -> str:
        run = self.client.create_run(self.experiment, run_name=f"net-digits-{technique}")
        run_id: str = run.info.run_id
        tags = {"model": "net", "dataset": "digits", "technique": technique, "seed": params.get("seed", "0")}
        shared = {key: value for key, value in params.items() if key.startswith(("training.", "model."))}
        keys = {"opscore.fingerprint": f"{technique} {shared}", "hardware": "another"}
        keys |= {} if technique == "baseline" else {"opscore.baseline": f"baseline {shared}"}
        for key, value in (tags | keys).items():
            self.client.set_tag(run_id, key, value)
        own = {"model.width": "8", "seed": "0", "technique._target_": technique, "measurement.threads": "1"} | params
        for key, value in own.items():
            self.client.log_param(run_id, key, value)
        for name, number in ((ACCURACY, 0.5), (SCORE, 50.0)):
            self.client.log_metric(run_id, name, number)
        with renamed(exported_model, "model.tflite") as path:
            self.client.log_artifact(run_id, str(path), "cell")
        self.client.set_terminated(run_id)
        return run_id

    def run(self, run_id: str) -> Run:
        return self.client.get_run(run_id)

    def metrics(self, run_id: str, target: str, runtime: str = "litert") -> dict[str, float]:
        start = f"measure/{target}/{runtime}/"
        return {
            name.removeprefix(start): value
            for name, value in self.run(run_id).data.metrics.items()
            if name.startswith(start)
        }


@contextmanager
def renamed(path: Path, name: str) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(shutil.copy(path, Path(folder) / name))


def sessions(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "measured").iterdir())
