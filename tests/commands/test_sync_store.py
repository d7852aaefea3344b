"""`opscore sync` on a store of a SQLite file."""

import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import pytest

from pipelines.commands.sync import send, with_receipts
from pipelines.system.errors import StoreError
from pipelines.tracking.cell_run import CellRun, RunReceipt
from pipelines.tracking.store import Store
from tests.places import SMALL, Place

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store with a baseline and its quantized model, recorded from the folder `out`."""
    place = Place(tmp_path_factory.mktemp("store"))
    assert place.run(*SMALL, "technique=quantize_dynamic").returncode == 0
    return place


def test_run_that_a_person_deleted_is_replaced(place: Place) -> None:
    runs = {run.info.run_name: run for run in place.cells()}
    folder = place.folder / "out/small_cnn-digits-quantize_dynamic"
    path = RunReceipt.path(folder)
    receipt = RunReceipt.load(path)
    replace(receipt, recorded=False).save(path)
    # One that was cut off does not keep the others from being sent.
    damaged = RunReceipt.path(place.folder / "out/small_cnn-digits-baseline")
    whole = damaged.read_text()
    damaged.write_text(whole[:20])
    lost = runs["small_cnn-digits-quantize_dynamic"]
    place.client.delete_run(lost.info.run_id)
    sent = place.opscore("sync", "out")
    assert sent.returncode == 1 and "1 cell sent, 1 could not be sent" in sent.stdout, sent.stdout + sent.stderr
    assert f"{damaged.name} must be the receipt of the cell's run, got a damaged file" in sent.stderr
    damaged.write_text(whole)
    (run,) = (run for run in place.cells() if run.info.run_name == lost.info.run_name)
    assert run.info.run_id != lost.info.run_id
    # What finds the cell and its baseline, and what resumes from its folder.
    keys = ("opscore.fingerprint", "opscore.identity", "opscore.baseline", "opscore.folder")
    assert [run.data.tags[tag] for tag in keys] == [lost.data.tags[tag] for tag in keys]

    # As where code, libraries or images have changed since: the run keeps the keys of what was computed.
    then = dict.fromkeys(keys[:3], "of then") | {"opscore.folder": "elsewhere"}
    replace(RunReceipt.load(path), recorded=False, keys=then, images="others").save(path)
    assert place.opscore("sync", "out").returncode == 0
    (kept,) = (one for one in place.cells() if one.info.run_name == lost.info.run_name)
    assert [kept.data.tags[tag] for tag in keys] == [lost.data.tags[tag] for tag in keys]
    place.client.delete_run(kept.info.run_id)
    replace(RunReceipt.load(path), recorded=False, keys=then, images="others").save(path)
    refused = place.opscore("sync", "out")
    assert refused.returncode == 1 and "needs the images of digits as they were" in refused.stderr
    replace(RunReceipt.load(path), keys=then, images=receipt.images).save(path)
    assert place.opscore("sync", "out").returncode == 0
    (replaced,) = (one for one in place.cells() if one.info.run_name == lost.info.run_name)
    assert [replaced.data.tags[tag] for tag in keys[:3]] == ["of then"] * 3
    assert replaced.data.tags["opscore.folder"] == lost.data.tags["opscore.folder"]


def test_run_of_a_machine_that_died_is_completed(place: Place) -> None:
    path = RunReceipt.path(place.folder / "out/small_cnn-digits-baseline")
    replace(RunReceipt.load(path), recorded=False).save(path)
    (run,) = place.cells("tags.technique = 'baseline'")
    place.client.set_tag(run.info.run_id, "opscore.process", "another-machine 17 1")
    place.client.update_run(run.info.run_id, status="RUNNING")

    place.client.set_tag(run.info.run_id, "opscore.heartbeat", str(time.time()))
    waits = place.opscore("sync", "out")
    assert waits.returncode == 1 and "still being recorded by the process another-machine" in waits.stderr
    place.client.set_tag(run.info.run_id, "opscore.heartbeat", str(time.time() - 1e5))
    assert place.opscore("sync", "out").returncode == 0
    assert place.client.get_run(run.info.run_id).info.status == "FINISHED"


def test_only_what_the_run_lacks_is_sent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place.folder / "out/small_cnn-digits-baseline"
    (run,) = place.cells("tags.technique = 'baseline'")
    kept = Path(urlsplit(run.info.artifact_uri).path, "cell")
    (kept / "result.json").unlink()
    # As where sending it was broken off.
    figure = kept / "figures" / "training.png"
    figure.write_bytes(figure.read_bytes()[:100])
    times = {path: path.stat().st_mtime_ns for path in kept.rglob("*") if path.is_file()}
    replace(RunReceipt.load(RunReceipt.path(folder)), recorded=False).save(RunReceipt.path(folder))

    def away(*_: object) -> None:
        raise OSError("the disk is full")

    # Where a cell's time went is no reason to call it failed.
    monkeypatch.setattr(CellRun, "_record_breakdown", away)
    assert send(folder, RunReceipt.load(RunReceipt.path(folder))) == run.info.run_id
    assert place.client.get_run(run.info.run_id).info.status == "FINISHED"
    assert RunReceipt.load(RunReceipt.path(folder)).recorded
    for path in (one for one in folder.rglob("*") if one.is_file()):
        assert (kept / path.relative_to(folder)).read_bytes() == path.read_bytes()
    changed = {path for path in times if path.stat().st_mtime_ns != times[path]}
    assert changed == {figure}


def test_cell_of_a_renamed_experiment_is_sent_to_it(place: Place) -> None:
    path = RunReceipt.path(place.folder / "out/small_cnn-digits-baseline")
    replace(RunReceipt.load(path), recorded=False).save(path)
    place.client.rename_experiment(place.experiment, "photos 2026")
    try:
        sent = place.opscore("sync", "out")
        assert sent.returncode == 0 and "1 cell sent" in sent.stdout, sent.stdout + sent.stderr
        assert {one.name for one in place.client.search_experiments()} == {"Default", "photos 2026"}
        assert len(place.cells("tags.technique = 'baseline'")) == 1
    finally:
        place.client.rename_experiment(place.experiment, place.name)


def test_run_that_the_store_does_not_end_is_sent_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a server goes away at the very end: all else is in the store."""
    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", "mine")
    ended = mlflow.end_run

    def away(status: str) -> None:
        raise mlflow.MlflowException(f"API request failed, for {status}")

    (tmp_path / "cell").mkdir()
    monkeypatch.setattr(mlflow, "end_run", away)
    with (
        pytest.raises(StoreError, match=rf"has all of the cell but .*: `opscore sync {tmp_path}/cell` does, once"),
        CellRun.opened(
            store, folder=tmp_path / "cell", run_id=None, tags={}, keys={}, images="", monitored=False
        ) as run,
    ):
        pass
    monkeypatch.undo()
    ended("KILLED")
    receipt = RunReceipt.load(RunReceipt.path(tmp_path / "cell"))
    assert receipt.run_id == run.run_id and not receipt.recorded


def test_the_working_folder_may_be_that_of_a_cell(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = (place.folder / "out/small_cnn-digits-quantize_dynamic").resolve()
    monkeypatch.chdir(folder)
    assert list(with_receipts([Path()])) == [folder]
