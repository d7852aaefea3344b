"""The command itself, in real processes against a real SQLite store."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pytest

from pipelines.results.folder import Finished
from pipelines.system.stopwatch import PARTS
from pipelines.tracking.store import Store
from pipelines.training.trainer import still_rising
from tests.conftest import small_data
from tests.places import ROOT, SMALL, Place, called, logged_data, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store in which the default cell, and the baseline that it needs, have run."""
    place = Place(tmp_path_factory.mktemp("store"))
    # As under `mlflow run`, whose experiment is another than the configured one.
    opened = place.client.create_run("1").info.run_id
    place.began = time.time()  # type: ignore[attr-defined]
    done = place.run("tracking.experiment=opscore", MLFLOW_RUN_ID=opened)
    assert done.returncode == 0, done.stdout + done.stderr
    place.output = done.stdout  # type: ignore[attr-defined]
    place.errors = done.stderr  # type: ignore[attr-defined]
    return place


def test_a_cell_and_its_baseline_are_recorded_as_the_design_says(place: Place) -> None:
    runs = place.runs()
    assert set(runs) == {"small_cnn-digits-baseline", "small_cnn-digits-quantize_int8"}
    cell = runs["small_cnn-digits-quantize_int8"]
    assert cell.info.status == "FINISHED"
    tags = {"model": "small_cnn", "dataset": "digits", "technique": "quantize_int8", "seed": "0", "feasible": "True"}
    assert tags.items() <= cell.data.tags.items()
    assert {"opscore.fingerprint", "hardware", "mlflow.note.content"} <= set(cell.data.tags)
    assert cell.data.params["training.epochs"] == "2"
    assert cell.data.params["technique.scheme"] == "int8"
    assert {
        "test/accuracy", "test/top5_accuracy", "time/train_s", "time/train_total_s",
        "time/convert_s", "time/test_ms_p50", "time/test_ms_p90", "time/test_ms_p99", "time/images_per_s",
        "size/file_bytes", "size/compressed_bytes", "model/parameters", "model/macs", "model/sparsity",
        "score/operational", "score/gain_db", "score/gain_size_db", "score/accuracy_db",
    } <= set(cell.data.metrics)  # fmt: skip
    assert cell.data.metrics["time/train_s"] == 0
    baseline = runs["small_cnn-digits-baseline"]
    assert cell.data.metrics["time/train_total_s"] == baseline.data.metrics["time/train_total_s"] > 0
    epochs = place.client.get_metric_history(baseline.info.run_id, "train/val_accuracy")
    assert [point.step for point in epochs] == [1, 2]


def test_recorded_cell_is_opened_in_place(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = place.runs()["small_cnn-digits-baseline"]
    store = Store(place.uri, "opscore")
    files = [store.open(run.info.run_id).files.folder, store.exported_model(run.info.run_id)]
    cell = Path(urlsplit(run.info.artifact_uri).path, "cell")
    assert files == [cell, cell / "model.tflite"]
    assert store.result(run.info.run_id).name == run.info.run_name
    assert list(tmp_path.iterdir()) == []


def test_cell_adopts_the_run_that_mlflow_opened(place: Place) -> None:
    assert len(place.client.search_runs(["1"])) == 2
    oldest = place.client.search_runs(["1"], order_by=["attributes.start_time ASC"])[0]
    assert oldest.info.run_name == "small_cnn-digits-quantize_int8"


def test_datasets_are_logged_with_the_digest(place: Place) -> None:
    inputs = logged_data(place.runs()["small_cnn-digits-quantize_int8"])
    contexts = {one.tags[0].value: one.dataset for one in inputs}
    assert set(contexts) == {"training", "testing"}
    assert {dataset.name for dataset in contexts.values()} == {"digits"}
    assert {len(dataset.digest) for dataset in contexts.values()} == {32}


def test_files_and_figures_are_kept(place: Place) -> None:
    runs = place.runs()
    for run, extra in (
        (runs["small_cnn-digits-baseline"], {"checkpoint.keras", "figures/training.png"}),
        (runs["small_cnn-digits-quantize_int8"], {"figures/against_baseline.png"}),
    ):
        folder = place.files(run) / "cell"
        kept = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        expected = {
            "model.tflite", "result.json", "config.json", "predictions.npz", "latency.npz",
            "figures/confusion_matrix.png", "figures/latency.png", "figures/breakdown.png", "breakdown.json",
            "tables/classes.json",
        }  # fmt: skip
        assert kept == expected | extra


def test_the_parts_of_the_cells_add_up_to_the_wall_time(place: Place) -> None:
    runs = place.runs()
    both = [run.data.metrics for run in runs.values()]
    for metrics in both:
        assert sum(metrics[f"wall/{part}_s"] for part in PARTS) == pytest.approx(metrics["wall/total_s"])
        assert metrics["wall/measure_s"] > 0 and metrics["wall/record_s"] > 0
    baseline, cell = (runs[f"small_cnn-digits-{name}"] for name in ("baseline", "quantize_int8"))
    # The baseline ran within the cell's process and counts for itself alone.
    assert cell.data.metrics["wall/train_s"] == 0
    assert baseline.data.metrics["wall/train_s"] == pytest.approx(baseline.data.metrics["time/train_s"], rel=0.2)
    assert baseline.data.metrics["wall/build_s"] > 0
    # By the clock, from the start of the process until the last of these metrics was sent.
    ended = place.client.get_metric_history(cell.info.run_id, "wall/total_s")[-1].timestamp / 1e3
    elapsed = ended - place.began  # type: ignore[attr-defined]
    # What records these metrics is in none of them.
    assert 0.5 * elapsed < sum(metrics["wall/total_s"] for metrics in both) < elapsed + 0.01


def test_the_gain_splits_by_criterion_and_matches_the_scores(place: Place) -> None:
    folder = place.files(place.runs()["small_cnn-digits-quantize_int8"]) / "cell"
    result = Finished.load(folder).result
    assert result.comparison is not None
    gain = result.comparison.gain
    assert gain.total == pytest.approx(gain.accuracy + gain.size + gain.test_time + gain.train_time)
    assert gain.train_time == 0
    assert gain.size > 3
    assert result.comparison.size == "better"
    assert result.measurement.test_images == 100
    written = json.loads((folder / "result.json").read_text())
    assert written["measurement"]["accuracy"] == result.measurement.accuracy


def test_pyfunc_maps_pixels_to_names_and_probabilities(place: Place) -> None:
    data, _ = small_data()
    mlflow.set_tracking_uri(place.uri)
    run = place.runs()["small_cnn-digits-quantize_int8"]
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    answer = model.predict(data.test.images)
    assert answer["class"].shape == (100,)
    assert set(answer["class"]) <= set(data.class_names)
    assert answer["probabilities"].shape == (100, 10)
    assert np.allclose(answer["probabilities"].sum(axis=1), 1, atol=1e-5)
    right = answer["class"] == np.array(data.class_names)[data.test.labels]
    assert right.mean() == run.data.metrics["test/accuracy"]
    with pytest.raises(Exception, match="uint8"):
        model.predict(data.test.images.astype(np.float64) / 255)


def test_the_model_has_no_file_of_the_current_folder(place: Place) -> None:
    assert (ROOT / "uv.lock").is_file()
    mlflow.set_tracking_uri(place.uri)
    run = place.runs()["small_cnn-digits-quantize_int8"]
    model = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/model"))
    # With a uv.lock, MLflow serves it in that project's environment instead.
    assert not {"uv.lock", "pyproject.toml"} & {path.name for path in model.rglob("*")}
    assert [line.partition("==")[0] for line in (model / "requirements.txt").read_text().splitlines()] == [
        "mlflow", "ai-edge-litert", "numpy",
    ]  # fmt: skip


def test_the_terminal_shows_table_link_and_ui(place: Place) -> None:
    output = place.output  # type: ignore[attr-defined]
    run = place.runs()["small_cnn-digits-quantize_int8"]
    for text in ("score  ", "Better in", run.info.run_id, f"mlflow ui --backend-store-uri {place.uri}"):
        assert text in output


def test_the_terminal_has_no_line_of_a_library(place: Place) -> None:
    shown = place.output + place.errors  # type: ignore[attr-defined]
    for noise in ("RAPL", "NVML", "amdsmi", "cuInit", "XNNPACK", "fully_quantize", "WARNING", "I0000"):
        assert noise not in shown
    (log,) = place.folder.glob("out/opscore.log")
    # It is all in the log file.
    assert "fully_quantize: " in log.read_text() and "XNNPACK delegate" in log.read_text()


def test_exported_model_contains_its_labels(place: Place) -> None:
    exported_model = place.files(place.runs()["small_cnn-digits-baseline"]) / "cell" / "model.tflite"
    with zipfile.ZipFile(exported_model) as archive:
        assert archive.read("labels.txt").decode().split() == [str(digit) for digit in range(10)]


def test_donor_trains_once_in_subprocess(place: Place) -> None:
    donor = ["model@technique.source.model=small_cnn", "technique.source.model.width=8"]
    student = ["technique=layer_transfer", "technique.match=shape", "technique.freeze=1"]
    done = place.run("model.width=16", *student, *donor, f"hydra.run.dir={place.folder}/donor")
    assert done.returncode == 0, done.stdout + done.stderr
    run = place.runs()["small_cnn-digits-layer_transfer"]
    assert run.data.tags["source"] == "small_cnn-digits-baseline"
    assert 0 < run.data.metrics["transfer/parameters_share"] < 1
    # The donor's training counts.
    assert run.data.metrics["time/train_total_s"] > run.data.metrics["time/train_s"] > 0
    plan = json.loads((place.files(run) / "transfer_plan.json").read_text())
    assert {"layer", "source_layer", "parameters", "share_of_model"} <= set(plan["columns"])
    (donor_run,) = place.client.search_runs(["1"], "params.`model.width` = '8'")
    before = len(place.client.search_runs(["1"]))
    by_run = [f"technique.source.uri=runs:/{donor_run.info.run_id}", f"hydra.run.dir={place.folder}/by-run"]
    again = place.run("model.width=16", *student, *by_run)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("reused") == 1
    assert len(place.client.search_runs(["1"])) == before + 1


def test_transfer_starts_from_a_finished_checkpoint(place: Place) -> None:
    checkpoint = place.files(place.runs()["small_cnn-digits-baseline"]) / "cell" / "checkpoint.keras"
    phases = ("technique.unfreeze_blocks=1", "technique.unfreeze_epochs=1", f"hydra.run.dir={place.folder}/transfer")
    done = place.run("technique=transfer", f"model.weights={checkpoint}", *phases)
    assert done.returncode == 0, done.stdout + done.stderr
    run = place.runs()["small_cnn-digits-transfer"]
    assert len(place.client.get_metric_history(run.info.run_id, "train/loss")) == 3
    assert run.data.metrics["test/accuracy"] > 0.5


def test_untrained_run_cannot_be_a_teacher(place: Place) -> None:
    run = place.runs()["small_cnn-digits-quantize_int8"]
    done = place.run(
        "technique=distill", f"technique.source.uri=runs:/{run.info.run_id}", f"hydra.run.dir={place.folder}/none"
    )
    assert done.returncode == 1
    assert "must be a cell that was trained, got small_cnn-digits-quantize_int8" in done.stderr


def test_mlflow_run_sweep_takes_lists_and_is_the_parent(place: Place) -> None:
    overrides = [*SMALL, "measurement=quick", "score.accuracy=1.5", f"hydra.sweep.dir='{place.folder}/two words'"]
    command = [
        *(sys.executable, "-m", "mlflow", "run", ".", "--env-manager=local", "-e", "sweep"),
        # MLflow records what a shell must quote with its quotes.
        *("--experiment-name", "mine", "-P", "technique=quantize_dynamic, quantize_float16", "-P", "seed=range(0,1)"),
        *("-P", f"overrides={shlex.join(overrides)}"),
    ]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # Tests that open a store in this process leave its experiment in the environment.
    environment = place.environment(PATH=path)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = place.cells("params.`score.accuracy` = '1.5'")
    assert {run.data.tags["technique"] for run in cells} == {"quantize_dynamic", "quantize_float16"}
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in cells}
    assert place.client.get_run(parent).info.status == "FINISHED"
    assert (place.folder / "two words").is_dir()


def test_deterministic_runs_give_the_same_weights(tmp_path: Path) -> None:
    weights = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        place = Place(tmp_path / name)
        done = place.run(
            *("technique=baseline", "deterministic=true", "dataset.horizontal_flip=true", "dataset.max_shift=1"),
            *("training.epochs=2", "measurement=quick"),
        )
        assert done.returncode == 0, done.stderr
        run = place.runs()["small_cnn-digits-baseline"]
        weights.append((place.files(run) / "cell" / "model.tflite").read_bytes())
    assert weights[0] == weights[1]
    first, last = (one.value for one in place.client.get_metric_history(run.info.run_id, "train/val_accuracy"))
    told = f"The last of 2 epochs still raised the validation accuracy by {100 * (last - first):.1f} points"
    rising = still_rising([first, last], epochs=2, images=60) is not None
    assert (told in run.data.tags["mlflow.note.content"]) == rising


def test_results_survive_a_store_that_fails(tmp_path: Path) -> None:
    place = Place(tmp_path)
    started = place.start("technique=baseline", "training.epochs=40", "training.patience=40")
    until(lambda: "training for 40 epochs" in (tmp_path / "out.txt").read_text())
    # Exported models cannot be written below a file.
    shutil.rmtree(tmp_path / "artifacts")
    (tmp_path / "artifacts").write_text("in the way")
    assert started.wait(timeout=300) == 1
    assert "could not be recorded" in (tmp_path / "out.txt").read_text()
    finished = Finished.load(tmp_path / "out" / "small_cnn-digits-baseline")
    assert finished.files.exported_model.exists() and finished.files.checkpoint.exists()
    # Without the optimizer's state, which would triple it.
    assert finished.files.checkpoint.stat().st_size < 2 * 4 * finished.result.complexity.parameters
    (run,) = place.client.search_runs(["1"])
    assert run.info.status == "FAILED"


def test_a_techniques_module_may_load_tensorflow(tmp_path: Path) -> None:
    place = Place(tmp_path)
    _, _, *words = place.command("technique=baseline", "technique._target_=tests.own_early.Early")
    done = called(*words, cwd=ROOT, variables=place.environment(), loaded=False)
    assert done.returncode == 0, done.stderr
