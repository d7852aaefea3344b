"""Which recorded cells a command takes, where runs, files or figures are missing."""

import csv
import sys
from pathlib import Path

import pytest

from pipelines.commands import cli
from pipelines.tracking.store import TABLE, Store
from tests.tracking.promotion import ALL, Command, Copy
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
