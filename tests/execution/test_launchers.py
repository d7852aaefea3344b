"""Sweeps on launchers for more than one process or machine, each for real on loopback; joblib in `test_sweep.py`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.places import Place, until
from tests.servers import free_port

pytestmark = pytest.mark.slow
# Whose process a cell has is the launcher's business here.
INLINE = "sweep.isolation=inline"


@contextmanager
def ray_node(*arguments: str, ready: str, log_path: Path) -> Iterator[None]:
    """`ray start` in the foreground, in a session of its own, which ends with the context."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1", *arguments]
    with log_path.open("w") as output:
        node = subprocess.Popen(
            [*command, "--disable-usage-stats"], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        until(lambda: ready in log_path.read_text())
        yield
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        node.wait(timeout=60)


def check(place: Place) -> None:
    cells = place.cells()
    assert {run.data.tags["technique"] for run in cells} == {"baseline", "quantize_dynamic", "quantize_float16"}
    assert len(cells) == 3 and {run.info.status for run in cells} == {"FINISHED"}
    (parent,) = place.sweeps()
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in cells} == {parent.info.run_id}


def test_a_ray_cluster_of_two_nodes(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    if find_spec("amdsmi") and not Path("/opt/rocm").exists():
        pytest.skip("Ray fails at the import of amdsmi, which Zeus brings along, where there is no ROCm")
    place, port = Place(tmp_path), free_port()
    head = ("--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false")
    with ExitStack() as cluster:
        for name, arguments in (("head", head), ("second", (f"--address=127.0.0.1:{port}",))):
            cluster.enter_context(ray_node(*arguments, ready="Ray runtime started", log_path=tmp_path / name))
        address = f"hydra.launcher.ray.init.address='127.0.0.1:{port}'"
        done = place.run("-m", "technique=quantize_dynamic,quantize_float16", "hydra/launcher=ray_cluster", address)
    assert done.returncode == 0, done.stdout + done.stderr
    check(place)


def test_submitit_on_this_machine(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    place = Place(tmp_path)
    done = place.run("-m", "technique=quantize_dynamic,quantize_float16", "hydra/launcher=submitit_local", INLINE)
    assert done.returncode == 0, done.stdout + done.stderr
    check(place)


def test_search_gives_pareto_set_and_resumes(tmp_path: Path) -> None:
    place = Place(tmp_path)
    search = (
        *("-m", INLINE, "hydra/sweeper=pareto", "hydra.sweeper.n_trials=4", "hydra.sweeper.batch_size=2"),
        *("hydra.sweeper.objectives={time/test_ms_p50: null}", "technique=prune", "technique.sparsity=choice(0.5,0.7)"),
        # Every other form of a range, each with one value.
        *("technique.learning_rate=tag(log, interval(1e-3,1e-3))", "technique.epochs=int(interval(1,1))"),
        "training.warmup_fraction=interval(0.1,0.1)",
    )
    done = place.run(*search)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Pareto set:" in done.stdout
    # Two choices in four trials: at most two cells and their baseline.
    assert len(place.cells()) == 3
    # Their times are by their ratio to the baseline's, as a comparison has them, and not of two different minutes.
    metrics = {run.info.run_id: run.data.metrics for run in place.cells()}
    (base_ms,) = (one["time/test_ms_p50"] for one in metrics.values() if "baseline/time_ratio" not in one)
    for path in (tmp_path / "out").glob("*/outcome.json"):
        outcome = json.loads(path.read_text())
        expected = base_ms * metrics[outcome["run_id"]]["baseline/time_ratio"]
        assert outcome["metrics"]["time/test_ms_p50"] == pytest.approx(expected)
    (parent,) = place.sweeps()
    assert parent.info.status == "FINISHED"
    assert any(path.name == "pareto.json" for path in place.files(parent).iterdir())
    again = place.run(*search, out="again")
    assert again.returncode == 0 and len(place.cells()) == 3
    assert "done" not in again.stdout
