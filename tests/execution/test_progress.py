"""What a sweep's cells do, read from their logs."""

import os
import time
from pathlib import Path

import pytest

from pipelines.execution.progress import MAX_CELLS, Logs, lines
from pipelines.execution.sweep_cell import JOB_OUTCOME
from pipelines.execution.sweep_table import progress_line
from pipelines.results.outcome import Outcome


def job(folder: Path, number: int, log: str) -> Path:
    path = folder / str(number) / "cell.log"
    path.parent.mkdir()
    path.write_text(log)
    return path


BASELINE = "[18:00:01] small_cnn-digits-baseline: not in the store, so it is run first\n"


@pytest.mark.parametrize(
    ("log", "shown"),
    [
        ("", "starting"),
        ("WARNING: a line of a library\n", "starting"),
        ("[18:00:01] INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n", "starting"),
        (BASELINE, "small_cnn-digits-baseline: not in the store, so it is run first"),
        (
            f"{BASELINE}training for 9 epochs of 2 steps\n",
            "small_cnn-digits-baseline: training for 9 epochs of 2 steps",
        ),
        (f"{BASELINE}epoch 8 of 9: loss 0.1\nepoch 9 of 9: loss 0.1\n", "small_cnn-digits-baseline: epoch 9 of 9"),
        (
            f"{BASELINE}epoch 9 of 9: loss 0.1\n[18:00:02] small_cnn-digits-baseline: exporting\n",
            "small_cnn-digits-baseline: exporting",
        ),
    ],
)
def test_last_report_is_shown(log: str, shown: str, tmp_path: Path) -> None:
    path = job(tmp_path, 0, log)
    (cell,) = Logs(tmp_path, since=0).running()
    assert (str(cell), cell.log_path) == (shown, path)


def test_growing_log_is_read_once(tmp_path: Path) -> None:
    path, logs = job(tmp_path, 0, BASELINE), Logs(tmp_path, since=0)
    shown = [str(*logs.running())]
    # It would be missed if it was read again.
    path.write_text(" " * (len(BASELINE) - 1) + "\n")
    # Half of a line, and half of a character.
    for more in (b"epoch 1 of 9: loss", b" 0.1 \xe2", b"\x82\xac\n", b"", b"[18:00:02] net-digits-qat: exporting\n"):
        with path.open("ab") as file:
            file.write(more)
        shown.append(str(*logs.running()))
    began = "small_cnn-digits-baseline: not in the store, so it is run first"
    epoch = "small_cnn-digits-baseline: epoch 1 of 9"
    assert shown == [began, began, began, epoch, epoch, "net-digits-qat: exporting"]


def test_finished_and_former_cells_do_not_run(tmp_path: Path) -> None:
    now = time.time()
    for number in (10, 2, 0, 1):
        job(tmp_path, number, BASELINE)
    (tmp_path / "0" / JOB_OUTCOME).write_text("{}")
    # Of a former sweep in the same folder.
    os.utime(tmp_path / "1" / "cell.log", (now - 60, now - 60))
    assert [cell.log_path.parent.name for cell in Logs(tmp_path, since=now - 10).running()] == ["2", "10"]


def test_many_cells_take_few_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(MAX_CELLS + 3):
        job(tmp_path, number, BASELINE)
    shown = lines(Logs(tmp_path, since=0).running())
    assert len(shown) == 2 * MAX_CELLS + 1 and shown[1] == "    0/cell.log" and shown[-1] == "  and 3 more cells"


def test_line_of_a_cell_names_what_tells_it_apart(tmp_path: Path) -> None:
    outcome = Outcome(
        number=3,
        name="small_cnn-digits-baseline",
        overrides=("technique=baseline", "seed=1", "training.epochs=2"),
        status="failed",
        seconds=3.2,
        message="the training loss became nan",
    )
    log = tmp_path / "cell.log"
    assert progress_line(outcome, 3, 12, swept=("technique", "seed"), log=log).splitlines() == [
        "[ 3/12] failed  small_cnn-digits-baseline seed=1  3 s",
        "    the training loss became nan",
        f"    its output is in {log}",
    ]
