"""Grids of cells in real processes: the parent run, training once, resuming, and all the ways to die."""

import json
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.places import ROOT, Place, until

pytestmark = pytest.mark.slow

# Long enough to be killed in the middle, short enough to be waited for.
LONG = ("training.epochs=40", "training.patience=40")
TWO_AT_ONCE = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
# Prints what a cell's process may use. Without CUDA: it is what the processes are told.
TELLING = "dataset._target_=tests.own_datasets.Telling"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A store in which a grid with all that can become of a cell was run."""
    place = Place(tmp_path_factory.mktemp("store"))
    # Of an earlier search in the same folder, or the user's.
    (place.folder / "out/report").mkdir(parents=True)
    (place.folder / "out/report/report.html").touch()
    for name in ("pareto.json", "report/other.png"):
        (place.folder / "out" / name).touch()
    done = place.run("-m", "technique=quantize_dynamic,quantize_float16,transfer", "training.learning_rate=1e-3,1e38")
    place.done = done  # type: ignore[attr-defined]
    return place


def columns(place: Place, run_id: str) -> dict[str, list[str]]:
    path = next(place.files(place.client.get_run(run_id)).glob("cells.json"))
    table = json.loads(path.read_text())
    return {name: [row[at] for row in table["data"]] for at, name in enumerate(table["columns"])}


def trainings(place: Place) -> int:
    """How many finished cells were trained, and not only converted."""
    return sum(run.data.metrics.get("time/train_s", 0) > 0 for run in place.cells("attributes.status = 'FINISHED'"))


def test_failed_cell_stops_no_other_and_is_in_the_status(place: Place) -> None:
    done = place.done  # type: ignore[attr-defined]
    assert done.returncode == 1, done.stdout + done.stderr
    assert "opscore: 2 of 6 cells failed; the same command again runs only these" in done.stderr
    assert done.stdout.count("transfer needs pretrained weights") == 2
    assert "lower training.learning_rate" in done.stdout
    failed = re.search(r"^\[\d/6\] failed  small_cnn-digits-quantize_dynamic (.*)\n((    .*\n)+)", done.stdout, re.M)
    assert failed is not None and failed[1].startswith("training.learning_rate=1e+38  ")
    assert re.search(r"^    its output is in (\S+/cell\.log)$", failed[2], re.M)
    assert re.search(r"\[6/6\]", done.stdout)
    # The table at the end: one row per cell, with the override that distinguishes them.
    table = done.stdout.split("\n\n")[-2]
    assert table.count("done") == 2 and table.count("failed") == 2 and table.count("skipped") == 2
    assert table.count("training.learning_rate=1e+38") == 3


def test_the_parent_holds_configuration_counts_and_summary(place: Place) -> None:
    (parent,) = place.sweeps()
    assert parent.info.status == "FAILED"
    assert parent.info.run_name == "sweep of 6 cells"
    counts = {name: parent.data.metrics[f"cells/{name}"] for name in ("done", "failed", "skipped", "reused", "total")}
    assert counts == {"done": 2, "failed": 2, "skipped": 2, "reused": 0, "total": 6}
    assert parent.data.params["technique"] == "quantize_dynamic,quantize_float16,transfer"
    files = {path.name for path in place.files(parent).rglob("*")}
    assert {"sweep.yaml", "summary.txt", "cells.json", "report.html"} <= files
    assert not {"pareto.json", "other.png"} & files and (place.folder / "out/report/other.png").exists()
    table = columns(place, parent.info.run_id)
    assert sorted(table["status"]) == ["done", "done", "failed", "failed", "skipped", "skipped"]
    done = [run_id for run_id, status in zip(table["run_id"], table["status"], strict=True) if status == "done"]
    assert {place.client.get_run(run_id).info.status for run_id in done} == {"FINISHED"}
    page = next(place.files(parent).rglob("report.html")).read_text()
    missing = "2 of 6 cells of this sweep failed, and are not on this page: small_cnn-digits-quantize_dynamic, "
    assert missing in page and "2 of 6 cells of this sweep had a technique that its model does not take" in page
    summary = (place.files(parent) / "summary.txt").read_text()
    # It opens with the shortlist.
    assert re.match(r"digits\n(.*\n)*?Most accurate: small_cnn-digits-\w+, \d+\.\d%\. ", summary), summary
    # Of the four cells that had a process, with the baseline that they had run first.
    assert "small_cnn-digits-quantize_float16" in summary and "processes took" in summary
    # The note opens with the answer.
    note = parent.data.tags["mlflow.note.content"]
    assert re.match(r"\*\*Fittest for digits: small_cnn-digits-\w+\*\*, \d+\.\d+% accurate \(95%: .*\), ", note), note
    assert "| lose at most | cell |" in note and "6 cells in " in note and "2 failed, " in note
    took = sum(float(seconds) for seconds in table["seconds"])
    # The end of a process, after its last figure, is in nothing.
    assert 0 < parent.data.metrics["wall/total_s"] <= took
    assert parent.data.metrics["wall/train_s"] > 0


def test_cells_are_child_processes_with_recorded_tracebacks(place: Place) -> None:
    (parent,) = place.sweeps()
    assert {run.data.tags["mlflow.parentRunId"] for run in place.cells()} == {parent.info.run_id}
    failed = place.cells("attributes.status = 'FAILED'")
    # The diverging baseline, trained once, and the two cells that lean on it.
    assert sorted(run.data.tags["technique"] for run in failed) == ["baseline", "quantize_dynamic", "quantize_float16"]
    for run in failed:
        assert "training.learning_rate" in run.data.tags["failure"]
        assert "Traceback" in (place.files(run) / "traceback.txt").read_text()
    assert trainings(place) == 1


def test_the_same_command_again_runs_only_what_is_missing(place: Place) -> None:
    before = len(place.cells("attributes.status = 'FINISHED'"))
    again = place.in_terminal("-m", "technique=quantize_dynamic,quantize_float16,cluster", out="again")
    assert again.returncode == 0, again.stdout
    assert re.findall(r"/3\] +(\w+)", again.stdout) == ["reused", "reused", "done"]
    _shows_what_runs(again.stdout, place)
    assert len(place.cells("attributes.status = 'FINISHED'")) == before + 1
    table = columns(place, place.sweeps()[0].info.run_id)
    assert table["status"] == ["reused", "reused", "done"]
    assert all(place.client.get_run(run_id).info.status == "FINISHED" for run_id in table["run_id"])


def test_a_sweep_whose_reader_has_gone_is_recorded(place: Place) -> None:
    command = shlex.join(place.command("-m", "technique=quantize_dynamic,quantize_float16", out="piped"))
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -4"],
        cwd=ROOT,
        env=place.environment(PYTHONUNBUFFERED="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "" and done.stdout.count("\n") == 4 and "2 cells, in" in done.stdout
    newest = place.sweeps()[0]
    assert newest.info.status == "FINISHED"
    assert columns(place, newest.info.run_id)["status"] == ["reused", "reused"]


def _shows_what_runs(shown: str, place: Place) -> None:
    """The terminal of 80 columns showed the epoch and the log of the running cell, and tables that fit."""
    assert re.search(r"2 of 3 cells after \d[\w ]+?(, about \d[\w ]+ left)?\n +small_cnn-digits-cluster: \w+", shown)
    assert f"{place.folder}/again/2/cell.log" in "".join(shown.split())
    summary = shown[shown.rindex("\ndigits\n") :]
    tables = [line for line in summary.splitlines() if "://" not in line and "report  " not in line]
    assert max(map(len, tables)) <= 80 and "more columns: " in summary


def test_another_score_measures_again_and_trains_nothing(place: Place) -> None:
    before = trainings(place)
    runs = len(place.cells())
    done = place.run("technique=cluster", "score=edge", out="edge")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained already, so it is only measured" in done.stdout
    # The cell alone: its baseline is found by its fingerprint.
    assert len(place.cells()) == runs + 1
    new, old = place.cells("tags.technique = 'cluster'")
    assert new.data.metrics["time/train_s"] == old.data.metrics["time/train_s"] > 0
    assert new.data.metrics["score/operational"] != old.data.metrics["score/operational"]
    assert new.data.tags["opscore.fingerprint"] == old.data.tags["opscore.fingerprint"]
    assert new.data.tags["opscore.identity"] != old.data.tags["opscore.identity"]
    assert (place.files(new) / "cell" / "checkpoint.keras").is_file()
    assert trainings(place) == before + 1


def test_finished_cell_is_shown_again_without_tensorflow(place: Place) -> None:
    done = place.run("technique=cluster", out="shown")
    assert done.returncode == 0, done.stderr
    assert "finished before, nothing was computed" in done.stdout and "score  " in done.stdout
    assert not (place.folder / "shown" / "small_cnn-digits-cluster").exists()


def test_resume_false_computes_everything_once_more(place: Place) -> None:
    before = trainings(place)
    done = place.run("-m", "technique=quantize_float16,quantize_dynamic", "resume=false", out="anew")
    assert done.returncode == 0, done.stdout
    assert re.findall(r"\] +(\w+)", done.stdout) == ["done", "done"]
    assert trainings(place) == before + 1


def test_invalid_sweep_settings_are_refused_first(place: Place) -> None:
    for wrong, sentence in (
        ("sweep.isolation=thread", "sweep.isolation must be one of process, inline, got 'thread'"),
        (
            "sweep={timeout_s: 60, isolation: inline}",
            "got sweep.timeout_s=60 with sweep.isolation=inline: leave sweep.timeout_s or sweep.isolation out",
        ),
        ("sweep.timeout_s=0", "sweep.timeout_s must be a number, more than 0, got 0"),
        ("resume=perhaps", "resume must be true or false, got 'perhaps'"),
        ("tracking.uri=http://127.0.0.1:9", "the MLflow server http://127.0.0.1:9 does not answer"),
    ):
        done = place.run("-m", "technique=baseline,cluster", wrong, out="wrong")
        assert done.returncode == 2
        assert sentence in done.stderr
        assert not (place.folder / "wrong").exists()


def test_cells_at_the_same_time_train_their_baseline_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    techniques = "quantize_dynamic,quantize_float16,baseline"
    # Long enough for another cell to come while it trains.
    granted = (TELLING, "sweep.threads=1")
    done = place.run("-m", f"technique={techniques}", *TWO_AT_ONCE, *LONG, *granted, CUDA_VISIBLE_DEVICES="3,5")
    assert done.returncode == 0, done.stdout + done.stderr
    cells = place.cells()
    assert len(cells) == 3 and {run.info.status for run in cells} == {"FINISHED"}
    assert len({run.data.tags["opscore.process"] for run in cells}) >= 2
    assert trainings(place) == 1
    logs = [path.read_text() for path in tmp_path.glob("out/*/cell.log")]
    assert len(logs) == 3
    assert any("waiting, another process works on it" in text for text in logs)
    assert not any("database is locked" in text for text in logs)
    assert told(place) == [(["3"], ["1"]), (["5"], ["1"]), (["3"], ["1"])], "cells take the cards in turn"
    assert not place.client.search_prompts()


def test_what_native_code_said_last_is_kept(tmp_path: Path) -> None:
    place = Place(tmp_path)
    done = place.run("-m", "technique=baseline", "technique._target_=tests.own_faults.Aborted")
    assert done.returncode == 1 and "was killed by SIGABRT" in done.stdout + done.stderr
    (run,) = place.cells()
    assert "LLVM ERROR: no such register" in run.data.tags["failure"]


def test_a_cell_that_is_killed_does_not_touch_the_others(tmp_path: Path) -> None:
    place = Place(tmp_path)
    sweep = place.start("-m", "technique=baseline", "training.epochs=4000,2", "training.patience=4000")
    (training,) = until(lambda: place.cells("metrics.`train/loss` > 0"))
    os.kill(int(training.data.tags["opscore.process"].split()[-2]), signal.SIGKILL)
    assert sweep.wait(timeout=150) == 1
    printed = (tmp_path / "out.txt").read_text()
    assert re.findall(r"\] +(\w+)", printed) == ["failed", "done"], printed
    assert "was killed by SIGKILL" in printed and "1 of 2 cells failed" in printed
    killed = place.client.get_run(training.info.run_id)
    assert killed.info.status == "FAILED" and "was killed by SIGKILL" in killed.data.tags["failure"]
    assert "training for 4000" in (place.files(killed) / "cell.log").read_text()
    assert not place.all("attributes.status = 'RUNNING'")


def test_a_teacher_is_stopped_with_the_cell_that_takes_too_long(tmp_path: Path) -> None:
    place = Place(tmp_path)
    teacher = ("model@technique.source.model=small_cnn", "technique.source.model.width=8")
    endless = ("training.epochs=4000", "training.patience=4000", "sweep.timeout_s=25", "sweep.threads=1")
    done = place.run("-m", "technique=distill", *teacher, *endless)
    assert done.returncode == 1
    assert "needed first, did not finish: its process was stopped after sweep.timeout_s=25 seconds" in done.stdout
    runs = place.cells()
    assert {run.info.run_name for run in runs} == {"small_cnn-digits-baseline", "small_cnn-digits-distill"}
    for run in runs:
        assert run.info.status == "FAILED" and "stopped after sweep.timeout_s=25 seconds" in run.data.tags["failure"]
    # What another test has ended may not be gone yet, and has no words then.
    words = [word for process in psutil.process_iter(["cmdline"]) for word in process.info["cmdline"] or []]
    assert words and not any(str(tmp_path) in word for word in words)


def test_killed_sweep_is_resumed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    grid = ("-m", "technique=quantize_dynamic,quantize_float16", *LONG)
    # With a server of its own, which it takes along.
    sweep = place.start(*grid, loaded=False)
    (training,) = until(lambda: place.cells("metrics.`train/loss` > 0"))
    sweep.kill()
    sweep.wait()
    # Its cell goes on by itself, and the next sweep waits for it instead of training a second time.
    again = place.run(*grid, out="again")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "1 run of dead processes, still open, marked as KILLED" in again.stdout
    assert place.client.get_run(training.info.run_id).info.status == "FINISHED"
    assert trainings(place) == 1
    new, old = place.sweeps()
    assert (new.info.status, old.info.status) == ("FINISHED", "KILLED")
    assert "ended without closing it" in old.data.tags["failure"]
    assert len({run.data.tags["opscore.fingerprint"] for run in place.cells()}) == len(place.cells()) == 3


def test_after_sweep_and_cell_are_killed_the_claim_is_taken_over(tmp_path: Path) -> None:
    place = Place(tmp_path)
    grid = ("-m", "technique=quantize_dynamic,quantize_float16")
    sweep = place.start(*grid, *LONG)
    (training,) = until(lambda: place.cells("metrics.`train/loss` > 0"))
    assert [model.name for model in place.client.search_prompts()] == [
        f"opscore-claim-{training.data.tags['opscore.fingerprint'][:32]}-0"
    ]
    sweep.kill()
    os.kill(int(training.data.tags["opscore.process"].split()[-2]), signal.SIGKILL)
    sweep.wait()
    again = place.run(*grid, *LONG, out="again")
    assert again.returncode == 0, again.stdout + again.stderr
    killed = place.client.get_run(training.info.run_id)
    assert killed.info.status == "KILLED" and "ended without closing it" in killed.data.tags["failure"]
    assert trainings(place) == 1
    assert not place.client.search_prompts()


@pytest.mark.parametrize(
    ("launcher", "number"), [((), signal.SIGINT), ((), signal.SIGTERM), (TWO_AT_ONCE, signal.SIGINT)]
)
def test_an_interrupt_reaches_the_cell_and_closes_everything(
    tmp_path: Path, launcher: tuple[str, ...], number: signal.Signals
) -> None:
    """joblib kills its workers, and the cells with them."""
    place = Place(tmp_path)
    sweep = place.start("-m", "technique=baseline", "training.epochs=4000,4001", "training.patience=4000", *launcher)
    until(lambda: place.cells("metrics.`train/loss` > 0"))
    sweep.send_signal(number)
    assert sweep.wait(timeout=60) == 130
    assert {run.info.status for run in [*place.cells(), *place.sweeps()]} == {"KILLED"}
    assert launcher or len(place.cells()) == 1, "the next one has not begun"
    assert not place.client.search_prompts()


def told(place: Place) -> list[tuple[list[str], list[str]]]:
    """The cards and the threads of each cell's process, by its number."""
    logs = [path.read_text() for path in sorted(place.folder.glob("out/*/cell.log"))]
    return [(re.findall(r"cards: (\S+)", text), re.findall(r"threads: (\S+)", text)) for text in logs]


def test_one_cell_at_a_time_may_use_all_granted_cards(tmp_path: Path) -> None:
    place = Place(tmp_path)
    own = (TELLING, "technique._target_=tests.own_faults.Training", "technique=baseline", "seed=0,1")
    done = place.run("-m", *own, CUDA_VISIBLE_DEVICES="3,5")
    assert done.returncode == 1
    assert told(place) == [(["3,5"], ["None"])] * 2
