"""Sweeps against a real server on PostgreSQL: many cells at once, and the server killed in the middle."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from pipelines.results.folder import Finished
from pipelines.tracking.experiment import EXPERIMENT_TAGS
from pipelines.tracking.store import Store
from tests.cells.test_config import composed
from tests.conftest import small_data
from tests.execution.test_sweep import LONG, trainings
from tests.places import ROOT, Place, logged_data, until
from tests.servers import Server, free_port, open_folder, serving

pytestmark = pytest.mark.slow


class Served:
    """A server that starts when it is needed, and may be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._open: tuple[Server, ExitStack] | None = None

    def running(self) -> Server:
        if self._open is None:
            stack = ExitStack()
            self._open = stack.enter_context(serving(self.folder, self.port)), stack
        return self._open[0]

    def kill(self) -> None:
        """At once, as where a machine fails; what is left of it ends."""
        assert self._open is not None
        server, stack = self._open
        server.mlflow.send_signal(signal.SIGKILL)
        server.process.wait(timeout=60)
        self._open = None
        stack.close()

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with open_folder() as folder, closing(Served(folder)) as served:
        yield served


def epochs(place: Place, run_id: str) -> list[int]:
    return [point.step for point in place.client.get_metric_history(run_id, "train/loss")]


def test_a_sweep_and_a_cell_at_the_same_time(served: Served, tmp_path: Path) -> None:
    place = Place(tmp_path, served.running().uri, "two")
    sweep = place.start("-m", "technique=quantize_dynamic")
    other = place.run("technique=quantize_float16", out="other")
    assert other.returncode == 0, other.stdout + other.stderr
    assert sweep.wait(timeout=300) == 0
    cells = place.cells()
    assert len(cells) == 3 and {run.info.status for run in cells} == {"FINISHED"}
    assert trainings(place) == 1
    (parent,) = place.sweeps()
    (swept,) = (run for run in cells if run.data.tags["technique"] == "quantize_dynamic")
    assert swept.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.metrics["cells/done"] == 1
    # Exported models came through the server, which alone has a place for them.
    assert (place.files(cells[0]) / "cell" / "model.tflite").stat().st_size > 0
    assert not place.client.search_prompts()


def test_processes_open_one_experiment_at_the_same_time(served: Served, tmp_path: Path) -> None:
    server = served.running()
    rivals, turns = 4, 10
    data, dataset = small_data()
    cell = replace(composed("dataset=digits"), dataset=dataset)
    refused: list[Exception] = []

    def record(rival: int, turn: int) -> None:
        test = replace(data.test, labels=(data.test.labels + turn) % 10)
        together.wait(timeout=60)
        try:
            store = Store(server.uri, f"rivals {turn}")
            with store.run(cell, replace(data, test=test), tmp_path / f"{turn} {rival}", keys={}):
                pass
        except Exception as error:  # noqa: BLE001 (whatever it is, the assertion shows it)
            refused.append(error)

    with ThreadPoolExecutor(rivals) as threads:
        client = MlflowClient(server.uri)
        for turn in range(turns):
            together = threading.Barrier(rivals)
            list(threads.map(record, range(rivals), [turn] * rivals))
            assert refused == []
            experiment = client.get_experiment_by_name(f"rivals {turn}")
            assert experiment is not None and set(EXPERIMENT_TAGS) <= set(experiment.tags)
            runs = client.search_runs([experiment.experiment_id])
            assert [run.info.status for run in runs] == ["FINISHED"] * rivals
            digests = {tuple(sorted(one.dataset.digest for one in logged_data(run))) for run in runs}
            assert len(digests) == 1 and len(digests.pop()) == 2


def test_server_that_returns_in_time_is_awaited(served: Served, tmp_path: Path) -> None:
    place = Place(tmp_path, served.running().uri, "waited")
    sweep = place.start("-m", "technique=quantize_dynamic", *LONG)
    (training,) = until(lambda: place.cells("metrics.`train/loss` > 0"))
    served.kill()
    served.running()
    assert sweep.wait(timeout=200) == 0, (tmp_path / "out" / "0" / "cell.log").read_text()
    assert {run.info.status for run in place.all()} == {"FINISHED"}
    assert epochs(place, training.info.run_id) == list(range(1, 41))


def written(path: Path) -> Path:
    """The file with the digits of `small_data`."""
    data, _ = small_data()
    parts = {
        f"{name}_{part}": getattr(getattr(data, part), name)
        for part in ("train", "test")
        for name in ("images", "labels")
    }
    np.savez(path, **parts)
    return path


def test_missed_cells_are_sent_exactly_once(served: Served, tmp_path: Path) -> None:
    place = Place(tmp_path, served.running().uri, "missed")
    # The path is relative to the folder of this command, not to that of the later ones.
    images = os.path.relpath(written(tmp_path / "photos.npz"), ROOT)
    own = ("dataset=npz", f"dataset.path={images}", "dataset.limit_train=null")
    cell = place.start("technique=baseline", *own, *LONG, "tracking.patience_s=1")
    (training,) = until(lambda: place.cells("metrics.`train/loss` > 0"))
    served.kill()
    # The training goes on, and its results stay in the folder.
    assert cell.wait(timeout=200) == 1
    printed = (tmp_path / "out.txt").read_text()
    assert "`opscore sync " in printed and "Traceback" not in printed
    folder = tmp_path / "out" / "small_cnn-photos-baseline"
    assert Finished.load(folder).files.checkpoint.is_file()
    refused = place.opscore("sync", "out")
    assert refused.returncode == 1 and "does not answer" in refused.stderr
    served.running()
    sent = place.opscore("sync", "out")
    assert sent.returncode == 0 and "1 cell sent" in sent.stdout, sent.stdout + sent.stderr
    again = place.opscore("sync", "out")
    assert "0 cells sent" in again.stdout
    (run,) = place.all()
    assert run.info.run_id == training.info.run_id and run.info.status == "FINISHED"
    assert epochs(place, run.info.run_id) == list(range(1, 41))
    assert len(place.client.get_metric_history(run.info.run_id, "score/operational")) == 1
    assert run.outputs is not None and len(run.outputs.model_outputs) == 1
    assert "failure" not in run.data.tags
    # As good as any other: the next cell starts from it.
    done = place.run("technique=quantize_dynamic", *own, *LONG, out="next")
    assert done.returncode == 0 and re.search(r"small_cnn-photos-baseline: .*, reused\n", done.stdout)
