"""What was trained is not lost: the same command goes on from there, whatever failed afterwards."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.results.folder import CellFiles, Trained
from tests.places import Place

pytestmark = pytest.mark.slow

# What Keras prints of a training.
EPOCH = re.compile(r"epoch \d+ of \d+")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user cannot mount a disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_after_a_measurement_that_timed_out(tmp_path: Path) -> None:
    place = Place(tmp_path)
    failed = place.run("technique=baseline", "measurement.timeout_s=0.01", out="first")
    assert failed.returncode == 1
    assert EPOCH.search(failed.stdout)
    assert "was stopped after measurement.timeout_s=0.01 seconds" in failed.stderr
    assert f"is kept in {tmp_path}/first/small_cnn-digits-baseline, and the same command goes on" in failed.stderr
    (run,) = place.cells()
    assert run.info.status == "FAILED"
    epochs = Trained.load(CellFiles(tmp_path / "first" / "small_cnn-digits-baseline").trained).epochs

    again = place.run("technique=baseline", out="second")
    assert again.returncode == 0, again.stdout + again.stderr
    assert not EPOCH.search(again.stdout)
    assert "so it goes on with measuring" in again.stdout
    run = place.runs("attributes.status = 'FINISHED'")["small_cnn-digits-baseline"]
    assert run.data.metrics["time/train_s"] >= epochs[-1]["seconds"]
    kept = {path.name for path in (place.files(run) / "cell").iterdir()}
    assert "checkpoint.keras" in kept and not kept & {"trained.json", "build.json"}
    # With resume=false it is trained again.
    anew = place.run("technique=baseline", "resume=false", out="third")
    assert anew.returncode == 0 and EPOCH.search(anew.stdout)


def test_after_an_export_that_was_refused(tmp_path: Path) -> None:
    place = Place(tmp_path)
    own = ["technique=qat", "technique._target_=tests.own_techniques.Unsure", "training.fine_tuning_epochs=1"]
    failed = place.run(*own, out="first", UNSURE="1")
    assert failed.returncode == 1 and EPOCH.search(failed.stdout)
    assert "unsure today" in failed.stderr and "is kept in" in failed.stderr
    again = place.run(*own, out="second")
    assert again.returncode == 0, again.stdout + again.stderr
    assert not EPOCH.search(again.stdout)
    assert "so it goes on with exporting" in again.stdout


def test_figures_that_cannot_be_recorded_cost_nothing_else(tmp_path: Path) -> None:
    place = Place(tmp_path)
    done = place.run("technique=baseline", "technique._target_=tests.own_techniques.Boasting", out="first")
    assert done.returncode == 0, done.stdout + done.stderr
    printed = " ".join(done.stdout.split())
    assert "metrics['own/shape'] of the technique must be a number, got list: it is left out" in printed
    assert "tables['bad'] of the technique is left out: what is recorded must be numbers, texts" in printed
    assert "metrics['test/accuracy'] of the technique must not have a name of opscore's own figures" in printed
    assert "metrics['own/kept (%)'] of the technique must have a name of at most 250 letters" in printed
    assert "tables['own/layers'] of the technique must have a name that a file can have" in printed
    (run,) = place.cells()
    assert run.data.metrics["own/loss"] == 2 and "own/shape" not in run.data.metrics
    assert run.data.metrics["test/accuracy"] < 1
    tables = {path.name for path in (place.files(run) / "cell" / "tables").iterdir()}
    assert "good.json" in tables and "bad.json" not in tables


def test_after_a_full_temporary_folder(tmp_path: Path, small_disk: Path) -> None:
    place = Place(tmp_path)
    failed = place.run("technique=baseline", out="first", TMPDIR=str(small_disk))
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert re.search(
        rf"MB are free on the disk {small_disk}, where the temporary folder .* is: free some", failed.stderr
    )
    again = place.run("technique=baseline", out="second")
    assert again.returncode == 0, again.stdout + again.stderr
    assert not EPOCH.search(again.stdout)


def test_an_edited_technique_gets_a_new_result(tmp_path: Path) -> None:
    place = Place(tmp_path)
    own = tmp_path / "their_technique.py"
    given = ["technique=baseline", "technique._target_=their_technique.Own", "training.epochs=2"]
    own.write_text("from pipelines.techniques.baseline import Baseline\n\n\nclass Own(Baseline):\n    pass\n")
    first = place.run(*given, PYTHONPATH=str(tmp_path))
    again = place.run(*given, PYTHONPATH=str(tmp_path))
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert "reused" in again.stdout
    own.write_text(own.read_text() + "\n    def helper(self) -> int:\n        return 3\n")
    edited = place.run(*given, PYTHONPATH=str(tmp_path))
    assert edited.returncode == 0 and "reused" not in edited.stdout, edited.stderr
    # Its name is the one of the class that it extends.
    assert len({run.data.tags["opscore.fingerprint"] for run in place.cells("tags.technique = 'baseline'")}) == 2


def test_resume_false_trains_a_teacher_again_too(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.run("technique=baseline", "model.width=8", "training.epochs=1").returncode == 0
    teacher = ("model@technique.source.model=small_cnn", "technique.source.model.width=8")
    again = place.run("technique=distill", *teacher, "training.epochs=1", "resume=false", out="again")
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(place.cells("params.`model.width` = '8'")) == 2


def test_files_that_somebody_deleted_are_named(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.run("technique=baseline").returncode == 0
    (run,) = place.cells()
    folder = place.files(run) / "cell"
    (folder / "checkpoint.keras").unlink()
    refused = place.run("technique=cluster", out="cluster")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    told = "the checkpoint.keras of small_cnn-digits-baseline, which small_cnn-digits-cluster needs, is lost"
    assert told in " ".join(refused.stderr.split()), refused.stderr
    # Another measurement needs the exported model alone; without it, the cell is trained again.
    assert place.run("technique=baseline", "measurement.min_calls=11", out="again").returncode == 0
    assert place.run("technique=quantize_dynamic", out="dynamic").returncode == 0
    # The newest run has lost it, and an older one has it.
    (place.files(place.cells("tags.technique = 'baseline'")[0]) / "cell" / "model.tflite").unlink()
    older = place.run("technique=baseline", "measurement.min_calls=13", out="older")
    assert older.returncode == 0 and not EPOCH.search(older.stdout), older.stderr
    # A cell that needs it takes the older one, too.
    needing = place.run("technique=quantize_float16", out="needing")
    assert needing.returncode == 0 and not EPOCH.search(needing.stdout), needing.stderr
    for path in tmp_path.glob("artifacts/*/artifacts/cell/model.tflite"):
        path.unlink()
    # Its parent, which it needs then, too.
    anew = place.run("technique=quantize_dynamic", "measurement.min_calls=12", out="anew")
    told = " ".join((anew.stdout + anew.stderr).split())
    assert anew.returncode == 1 and "model.tflite of small_cnn-digits-baseline, which small_cnn-digits-quantize" in told
    again = place.run("technique=baseline", "measurement.min_calls=12", out="trained")
    assert again.returncode == 0 and EPOCH.search(again.stdout), again.stderr
    dynamic = place.run("technique=quantize_dynamic", "measurement.min_calls=12", out="at_last")
    assert dynamic.returncode == 0 and "trained already" not in dynamic.stdout, dynamic.stderr
