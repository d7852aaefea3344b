"""`opscore sync` on a store of a SQLite file."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.tracking.cell_run import RunReceipt
from tests.places import SMALL, Place

pytestmark = pytest.mark.slow


def test_run_that_a_person_deleted_is_replaced(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.run(*SMALL, "technique=quantize_dynamic").returncode == 0
    runs = {run.info.run_name: run for run in place.cells()}
    folder = tmp_path / "out/small_cnn-digits-quantize_dynamic"
    path = RunReceipt.path(folder)
    replace(RunReceipt.load(path), recorded=False).save(path)
    lost = runs["small_cnn-digits-quantize_dynamic"]
    place.client.delete_run(lost.info.run_id)
    sent = place.opscore("sync", "out")
    assert sent.returncode == 0 and "1 cells sent" in sent.stdout, sent.stdout + sent.stderr
    (run,) = (run for run in place.cells() if run.info.run_name == lost.info.run_name)
    assert run.info.run_id != lost.info.run_id
    # What finds the cell and its baseline, and what resumes from its folder.
    for tag in ("opscore.fingerprint", "opscore.identity", "opscore.baseline", "opscore.folder"):
        assert run.data.tags[tag] == lost.data.tags[tag]
