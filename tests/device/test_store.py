"""Cells of a store, measured by real sessions."""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.commands import cli
from pipelines.device import recording, session
from pipelines.results.on_device import Figures
from pipelines.system import machine
from pipelines.system.errors import StoreError
from pipelines.tracking.measured import record
from tests.device.recorded_runs import FAST_COMMAND, RecordedRuns, sessions
from tests.places import ROOT
from tests.servers import free_port, open_folder, serving

pytestmark = pytest.mark.slow

HEAVY = ("tensorflow", "tf_keras", "scipy", "hydra", "omegaconf", "matplotlib", "pandas", "sklearn")


class TestStore:
    def test_figures_are_recorded_on_the_runs(self, cells, measure, tmp_path):
        out = measure("dataset=digits", f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "target=here")
        assert f"2 runs got figures as measure/here/... in {cells.uri}" in out
        (folder,) = sessions(tmp_path)
        for run_id, name in ((cells.baseline, "baseline"), (cells.int8, "quantize_int8")):
            records = json.loads((folder / f"net-digits-{name}-seed-0" / "result.json").read_text())
            assert records["runs"] == [run_id]
            assert cells.metrics(run_id, "here") == pytest.approx(records["metrics"])
            tags = cells.run(run_id).data.tags
            assert json.loads(tags["measure/here/litert/hardware"]) == machine.description()
            assert tags["measure/here/litert/invalid"] == ("; ".join(records["invalid"]) or "no")
            files = {Path(one.path).name for one in cells.client.list_artifacts(run_id, "measure/here/litert")}
            assert files == {"result.json", "latency.npz"}
            assert cells.run(run_id).info.status == "FINISHED"
        assert "ratio_1t" in cells.metrics(cells.int8, "here")
        assert "ratio_1t" not in cells.metrics(cells.baseline, "here")

    def test_a_baseline_that_was_not_chosen_is_measured_too(self, cells, measure, made):
        # Not one of another seed or width, nor the older one of the same settings.
        cells.add("baseline", made / "uint8.tflite", seed="1")
        cells.add("baseline", made / "uint8.tflite", **{"model.width": "16"})
        newer = cells.add("baseline", made / "float32.tflite", **{"measurement.threads": "2"})
        out = measure(
            *("filter=tags.technique = 'quantize_int8'", f"tracking.uri={cells.uri}", "experiment=mine"),
            *("threads=1", "batches=none"),
        )
        assert "2 runs got" in out
        assert "ratio_1t" in cells.metrics(cells.int8, machine.slug())
        assert cells.metrics(newer, machine.slug()) and not cells.metrics(cells.baseline, machine.slug())

    def test_baseline_is_found_by_its_fingerprint(self, cells, measure, made):
        # Reused under a setting that is spelled differently and means the same.
        cell = cells.add("quantize_float16", made / "uint8.tflite", **{"training.learning_rate": "0.001"})
        known = cells.run(cells.baseline).data.tags["opscore.fingerprint"]
        cells.client.set_tag(cell, "opscore.baseline", known)
        chosen = "filter=tags.technique = 'quantize_float16'"
        measure(chosen, f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "batches=none", "target=here")
        assert "ratio_1t" in cells.metrics(cell, "here")

    def test_one_exported_model_of_two_runs_is_measured_once(self, cells, measure, made):
        again = cells.add("quantize_int8", made / "int8.tflite", **{"score.size": "1"})
        measure(f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "batches=none", "target=here")
        assert cells.metrics(again, "here") == cells.metrics(cells.int8, "here")
        assert "ratio_1t" in cells.metrics(again, "here")

    def test_each_device_keeps_its_newest_figures(self, cells, measure, monkeypatch):
        chosen = (f"tracking.uri={cells.uri}", "experiment=mine", "threads=1")
        measure(*chosen, "target=one")
        first = cells.metrics(cells.int8, "one")
        measure(*chosen, "target=two", "batches=none")
        assert cells.metrics(cells.int8, "one") == first
        assert "images_per_s_b4_1t" not in cells.metrics(cells.int8, "two")
        later = time.time() + 60
        monkeypatch.setattr(time, "time", lambda: later)
        measure(*chosen, "target=one", "batches=none")
        second = cells.metrics(cells.int8, "one")
        assert set(second) == set(first)
        # A figure of the first session that the second one lacks is no longer valid.
        assert math.isnan(second["images_per_s_b4_1t"])
        history = cells.client.get_metric_history(cells.int8, "measure/one/litert/p50_ms_1t")
        assert [point.value for point in history] == [first["p50_ms_1t"], second["p50_ms_1t"]]
        assert history[1].timestamp - history[0].timestamp >= 60_000

    def test_an_unreachable_store_leaves_all_in_the_folder(self, cells, measure, tmp_path, monkeypatch):
        def away(*_: object) -> None:
            raise StoreError("run x could not be given its figures (connection refused)")

        monkeypatch.setattr(recording, "record", away)
        words = (f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "batches=none", "target=here")
        message = measure(*words, fails=True)
        (folder,) = sessions(tmp_path)
        assert f"0 runs in {cells.uri} received their figures (run x could not" in message
        assert f"all results are in {folder}, send them" in message
        assert f"opscore measure --send {folder}" in message
        assert not cells.metrics(cells.int8, "here")
        monkeypatch.undo()
        monkeypatch.setattr(sys, "argv", ["opscore", "measure", f"send={folder}"])
        cli.main()
        assert cells.metrics(cells.int8, "here")["valid"] in (0, 1)

    def test_a_lost_run_does_not_keep_others_from_their_figures(self, cells, measure, tmp_path, capsys, monkeypatch):
        chosen = (f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "target=here", "batches=none")
        measure(*chosen)
        (folder,) = sessions(tmp_path)
        again = RecordedRuns(tmp_path / "copy", cells.uri, "copy")
        # Of the two, the first that is sent.
        path = next(iter(sorted(folder.glob("*/result.json"))))
        lost = again.add("baseline", path.parent / "latency.npz")
        cells.client.delete_run(lost)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"runs": [lost]}))
        cells.client.set_tag(cells.int8, "measure/here/litert/began", "0")
        monkeypatch.setattr(sys, "argv", ["opscore", "measure", f"send={folder}"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        assert f"1 run got figures as measure/here/...; the store has lost 1 run: {lost}" in capsys.readouterr().out
        assert cells.run(cells.int8).data.tags["measure/here/litert/began"] != "0"

    def test_a_run_that_is_lost_meanwhile_is_told_by_the_status(self, cells, tmp_path, monkeypatch, capsys):
        real = recording.save

        def save(*words, **named):
            cells.client.delete_run(cells.int8)
            return real(*words, **named)

        monkeypatch.setattr(recording, "save", save)
        words = (f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "batches=none", "target=here")
        monkeypatch.setattr(
            sys, "argv", ["opscore", "measure", "profile=quick", f"out={tmp_path / 'measured'}", *words]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        assert f"the store has lost 1 run: {cells.int8}" in capsys.readouterr().out

    def test_session_is_not_sent_to_a_store_that_is_not_there(self, cells, measure, tmp_path):
        measure(f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "batches=none", "target=here")
        (folder,) = sessions(tmp_path)
        other = tmp_path / "mistyped.db"
        message = measure(f"send={folder}", f"tracking.uri=sqlite:///{other}", fails=True)
        assert "mistyped.db" in message
        assert not other.exists()

    def test_nothing_is_measured_where_results_cannot_be_kept(self, cells, measure, tmp_path, monkeypatch):
        def measured(*_: object, **__: object) -> None:
            raise AssertionError("it must not begin")

        monkeypatch.setattr(session, "run", measured)
        (tmp_path / "file").write_text("")
        message = measure(f"tracking.uri={cells.uri}", "experiment=mine", f"out={tmp_path / 'file'}", fails=True)
        assert "file" in message and "Not a directory" in message

    def test_interrupt_while_sending_names_the_results(self, cells, measure, tmp_path, monkeypatch, capsys):
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(recording, "record", interrupted)
        words = (f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "batches=none", "profile=quick")
        monkeypatch.setattr(sys, "argv", ["opscore", "measure", *words, f"out={tmp_path / 'measured'}"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 130
        (folder,) = sessions(tmp_path)
        assert f"interrupted: all results are in {folder}, send them" in capsys.readouterr().err

    def test_sending_an_older_session_changes_nothing(self, cells, tmp_path):
        def at(began: int, p50: float) -> bool:
            place = tmp_path / str(began)
            place.mkdir(exist_ok=True)
            (place / "result.json").write_text(str(began))
            found = Figures(
                target="t", runtime="litert", metrics={"p50_ms_1t": p50}, tags={"began": str(began), "invalid": "no"}
            )
            return record(cells.client, cells.int8, found, place)

        written = [at(200, 2.0), at(100, 1.0), at(200, 2.0)]
        assert written == [True, False, True]
        assert cells.metrics(cells.int8, "t") == {"p50_ms_1t": 2.0}
        assert len(cells.client.get_metric_history(cells.int8, "measure/t/litert/p50_ms_1t")) == 1
        assert cells.run(cells.int8).data.tags["measure/t/litert/began"] == "200"

    def test_files_of_a_session_cannot_be_sent(self, made, measure, tmp_path):
        measure(str(made / "int8.tflite"), "batches=none", "threads=1")
        sent = f"send={sessions(tmp_path)[0]}"
        assert "got target=other with send=" in measure(sent, "target=other", fails=True)
        assert "got runtimes=litert with send=" in measure(sent, "runtimes=litert", fails=True)
        assert "got profile=quick with send=" in measure(sent, "profile=quick", fails=True)
        assert "got one of files on disk" in measure(f"send={sessions(tmp_path)[0]}", fails=True)

    def test_no_cell(self, cells, measure):
        assert "no finished cell in" in measure(
            "dataset=none", f"tracking.uri={cells.uri}", "experiment=mine", fails=True
        )

    def test_a_lost_exported_model(self, cells, measure, tmp_path):
        shutil.rmtree(tmp_path / "artifacts" / cells.int8)
        message = measure(f"tracking.uri={cells.uri}", "experiment=mine", fails=True)
        assert f"the files of run {cells.int8} are lost" in message


def test_a_device_without_tensorflow_measures_against_a_server(made, tmp_path):
    """The extras `measure` and `openvino` in an environment of their own: files, and cells of an MLflow server."""
    uv = Path(sys.executable).with_name("uv")
    # The sources alone.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("pipelines", "hydra_plugins", "conf"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, f"{tmp_path}[measure,openvino]"], check=True)
    there = f"import importlib.util as u; print([name for name in {HEAVY} if u.find_spec(name)])"
    run = {"cwd": made, "capture_output": True, "text": True}
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    assert subprocess.run([python, "-c", there], env=clean, check=True, **run).stdout.strip() == "[]"
    given = ["profile=quick", "threads=1", "batches=none", f"out={tmp_path}/out"]
    measure = [python, "-c", FAST_COMMAND, "measure", *given]
    done = subprocess.run([*measure, "float32.tflite", "int8.tflite"], env=clean, check=False, **run)
    assert done.returncode == 0, done.stderr
    with open_folder() as folder, serving(folder, free_port()) as server:
        cells = RecordedRuns(folder, server.uri)
        run_ids = [
            cells.add("baseline", made / "float32.tflite"),
            cells.add("quantize_int8", made / "int8.tflite"),
        ]
        words = [f"tracking.uri={server.uri}", "experiment=mine", "target=device", "runtimes=litert,openvino"]
        done = subprocess.run([*measure, *words], env=clean, check=False, **run)
        assert done.returncode == 0, done.stderr
        for runtime in ("litert", "openvino"):
            assert all(cells.metrics(run_id, "device", runtime)["p50_ms_1t"] > 0 for run_id in run_ids)
        assert cells.metrics(run_ids[1], "device")["ratio_1t"] > 0
        assert "random pixels, as test images need opscore with its extra `train`" in done.stderr
        assert "compares the cells by these times, where opscore is installed with its extra `train`" in done.stdout
        pull = [python, "-m", "pipelines", "pull", "dataset=none", f"tracking.uri={server.uri}"]
        done = subprocess.run(pull, env=clean, check=False, **run)
        assert done.returncode == 1 and "opscore: alias must be one of those of opscore-none" in done.stderr
        server.stop()
        done = subprocess.run([python, "-m", "pipelines", "measure", *given, *words], env=clean, check=False, **run)
        assert done.returncode == 2 and "does not answer" in done.stderr
