"""Which recorded cells a command takes, where runs, files or figures are missing."""

import csv
import re
import shlex
import sys
from pathlib import Path

import pytest

from pipelines.commands import cli
from pipelines.system.errors import StoreError
from pipelines.tracking.liveness import process_id
from pipelines.tracking.store import TABLE, Store
from tests.tracking.promotion import ALL, Command, Copy
from tests.tracking.test_claims import dead_process
from tests.tracking.test_shortlist import recorded_like

pytestmark = pytest.mark.slow


def test_older_run_is_found_where_the_newest_has_lost_its_files(copy: Copy) -> None:
    older = copy.run("quantize_int8")
    recorded_like(copy, older, {}, {})
    key = older.data.tags["opscore.identity"]
    assert Store.existing(copy.uri, "mine").find(result_key=key) == older.info.run_id


def test_cells_of_a_killed_sweep_can_be_chosen(copy: Copy, opscore: Command) -> None:
    killed = copy.client.create_run(copy.experiment.experiment_id, tags={"sweep": "3 cells"}).info.run_id
    copy.client.set_terminated(killed, "KILLED")
    assert not [one for one in copy.client.list_artifacts(killed) if one.path == TABLE]
    assert "must be a run of a sweep" in opscore("promote", f"sweep={killed}", fails=True)
    copy.client.set_tag(copy.run("quantize_int8").info.run_id, "mlflow.parentRunId", killed)
    assert "1 candidate for opscore-digits" in opscore("promote", f"sweep={killed}", "--dry-run")


def test_last_sweep_is_the_newest_that_does_not_run(
    copy: Copy, opscore: Command, caplog: pytest.LogCaptureFixture
) -> None:
    """A sweep whose process was killed has a run that is open."""
    own, dead = process_id(), dead_process()
    living, killed = (
        copy.client.create_run(copy.experiment.experiment_id, tags={"sweep": "3 cells", "opscore.process": process})
        for process in (own, dead)
    )
    copy.client.set_tag(copy.run("quantize_int8").info.run_id, "mlflow.parentRunId", killed.info.run_id)
    assert "1 candidate for opscore-digits" in opscore("promote", "sweep=last", "--dry-run")
    # Another program's tag.
    copy.client.create_run(copy.experiment.experiment_id, tags={"sweep": "lr-grid"})
    assert "1 candidate for opscore-digits" in opscore("promote", "sweep=last", "--dry-run")
    copy.client.set_tag(killed.info.run_id, "opscore.process", own)
    copy.client.set_tag(living.info.run_id, "opscore.process", dead)
    caplog.clear()
    store = Store.existing(copy.uri, "mine")
    assert store.newest_sweep() == living.info.run_id
    assert f"the newest sweep, {killed.info.run_id}, still runs: the one before it is taken" in caplog.text


def test_result_that_the_store_does_not_give_now_is_not_lost(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cell is not trained again because a server was busy."""
    key = copy.run("quantize_int8").data.tags["opscore.identity"]
    store = Store.existing(copy.uri, "mine")

    def busy(*_: object, **__: object) -> Path:
        raise OSError("504 Gateway Time-out")

    monkeypatch.setattr(store, "_downloaded", busy)
    with pytest.raises(StoreError, match=r"has the files of run .* but does not give them"):
        store.find(result_key=key)


def test_files_in_a_bucket_without_its_client_are_not_lost(copy: Copy) -> None:
    """Nor without credentials: each client raises errors of its own."""
    experiment = copy.client.create_experiment("bucket", artifact_location="s3://no-such-bucket.invalid/opscore")
    run_id = copy.client.create_run(experiment, tags={"sweep": "2 cells"}).info.run_id
    copy.client.set_terminated(run_id)
    store = Store.existing(copy.uri, "bucket")
    with pytest.raises(StoreError, match=r"has the files of run .* but does not give them"):
        store.result(run_id)
    with pytest.raises(StoreError, match=r"has the list of the cells of sweep .* but does not give it .*: try again"):
        store.cells_of_sweep(run_id)


def test_run_that_does_not_exist_is_said_to_be_lost(copy: Copy) -> None:
    with pytest.raises(
        StoreError, match=r"gives the files of run typo are lost .*id=typo not found.*: correct the run"
    ):
        Store.existing(copy.uri, "mine").load("runs:/typo")


def test_run_that_ended_without_results_is_no_cell(copy: Copy, opscore: Command) -> None:
    """MLflow ends a run as FINISHED that its process left open, or a person did."""
    like = copy.run("quantize_int8").data.tags
    tags = {key: value for key, value in like.items() if not key.startswith("mlflow.")}
    empty = copy.client.create_run(copy.experiment.experiment_id, tags=tags)
    copy.client.set_terminated(empty.info.run_id)
    assert "3 candidates" in opscore("promote", ALL, "--dry-run")


def test_filters_that_are_offered_keep_the_users_own(copy: Copy, opscore: Command) -> None:
    message = opscore("promote", "--filter", "tags.technique = 'quantize_int8'", fails=True)
    offered = [shlex.split(one)[1] for one in re.findall(r"--filter (?:'[^']*'|\"'\")+", message)]
    assert len(offered) == 2 and all(one.startswith("tags.technique = 'quantize_int8' and params.") for one in offered)
    for one in offered:
        out = opscore("promote", "--filter", one, "--dry-run", fails="0.001" in one)
        assert ("1 candidate" in out) != ("0.001" in one)


def test_export_tells_which_cells_it_lacks(
    copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for technique in ("baseline", "quantize_int8"):
        copy.client.log_metric(copy.run(technique).info.run_id, "measure/pi/litert/p50_ms_1t", 1.0)
    path = tmp_path / "cells.CSV"
    words = ["compare", "experiment=mine", f"tracking.uri={copy.uri}", ALL, "--target", "pi", "--into", str(path)]
    monkeypatch.setattr(sys, "argv", ["opscore", *words])
    cli.main()
    told = capsys.readouterr()
    assert told.out == f"{path}: 2 rows written\n"
    assert "1 cell is left out, as figures are missing" in " ".join(told.err.split())
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert {row["technique"] for row in rows} == {"baseline", "quantize_int8"}
    page = tmp_path / "page.md"
    page.write_text("# Mine\n\n<!-- cells model=small_cnn dataset=digits -->\n<!-- end -->\n")
    monkeypatch.setattr(sys, "argv", ["opscore", *words[:-1], str(page)])
    cli.main()
    assert "| `quantize_int8` |" in page.read_text() and "float16" not in page.read_text()


def test_failed_measurement_of_a_trained_cell_is_not_final(copy: Copy, tmp_path: Path) -> None:
    """Another measurement of a trained cell may well end."""
    tags = {
        "opscore.fingerprint": "f",
        "opscore.identity": "thorough",
        "mlflow.parentRunId": "p",
        "failure": "too long",
    }
    failed = copy.client.create_run(copy.experiment.experiment_id, tags=tags).info.run_id
    copy.client.set_terminated(failed, "FAILED")
    store = Store.existing(copy.uri, "mine")
    assert store.failure("p", fingerprint="f", result_key="quick", since=0) == "too long"
    (tmp_path / "build.json").write_text('{"fingerprint": "f"}')
    copy.client.set_tag(failed, "opscore.folder", str(tmp_path))
    assert store.failure("p", fingerprint="f", result_key="quick", since=0) is None
    assert store.failure("p", fingerprint="f", result_key="thorough", since=0) == "too long"
    # As where another measurement of it has finished.
    copy.client.delete_tag(failed, "opscore.folder")
    copy.client.set_tag(failed, "opscore.fingerprint", trained := copy.run("baseline").data.tags["opscore.fingerprint"])
    assert store.failure("p", fingerprint=trained, result_key="quick", since=0) is None
    assert store.failure("p", fingerprint=trained, result_key="thorough", since=0) == "too long"
    assert store.failure("other", fingerprint="f", result_key="thorough", since=0) is None
