"""Files on disk, measured by real sessions."""

import json
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from pipelines.device import session
from pipelines.device.settings import PROFILES
from pipelines.litert.latency import Percentiles
from pipelines.system import machine, runtime
from tests.device.recorded_runs import FAST, sessions
from tests.places import ROOT

HEAVY = ("tensorflow", "tf_keras", "scipy", "hydra", "omegaconf", "matplotlib", "pandas", "sklearn")


class TestFiles:
    @pytest.mark.slow
    def test_all_figures_are_measured_and_saved(self, made, measure, tmp_path, monkeypatch):
        monkeypatch.chdir(made)
        out = measure("float32.tflite", "files=int8.tflite,single.tflite", "threads=1,2", "target=here")
        assert "No batch of 4:" in out and "single.tflite must take 4 images at once" in " ".join(out.split())
        (folder,) = sessions(tmp_path)
        assert str(folder) in out
        shared = json.loads((folder / "session.json").read_text())
        assert (shared["target"], shared["uri"]) == ("here", None)
        assert shared["hardware"] == machine.description()
        records = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/result.json")}
        assert set(records) == {"float32", "int8", "single"}
        int8 = records["int8"]["metrics"]
        assert {"valid", "load_ms", "first_call_ms", "peak_memory_mb", "images_per_s_b4_2t"} <= set(int8)
        assert (int8["delegate_partitions"], int8["undelegated_operators"]) == (1, 0)
        for threads in ("1t", "2t"):
            assert int8[f"p50_low_ms_{threads}"] <= int8[f"p50_ms_{threads}"] <= int8[f"p50_high_ms_{threads}"]
            assert int8[f"p50_ms_{threads}"] <= int8[f"p90_ms_{threads}"]
            assert int8[f"ratio_low_{threads}"] <= int8[f"ratio_{threads}"] <= int8[f"ratio_high_{threads}"]
        assert "ratio_1t" not in records["float32"]["metrics"]
        assert "images_per_s_b4_2t" not in records["single"]["metrics"]
        with np.load(folder / "int8" / "latency.npz") as raw:
            assert raw["starts"].shape == (1, 4) and len(raw["loads_1t"]) == 2
            assert raw["loads_1t"].sum() == len(raw["bursts_1t"]) and raw["bursts_1t"].sum() == len(raw["ns_1t"])
            assert int8["calls_1t"] == len(raw["ns_1t"])
            assert int8["p50_ms_1t"] == pytest.approx(Percentiles.of(raw["ns_1t"]).p50_ms)
            assert {"ns_b4", "bursts_b4", "loads_b4"} <= set(raw.files)

    @pytest.mark.slow
    def test_file_that_changes_meanwhile_does_not_count(self, made, measure, tmp_path, monkeypatch):
        for name in ("float32", "int8"):
            shutil.copy(made / f"{name}.tflite", tmp_path)
        monkeypatch.chdir(tmp_path)
        run = session.run

        def exported_again(*given, **named):
            found = run(*given, **named)
            shutil.copy(made / "uint8.tflite", tmp_path / "float32.tflite")
            return found

        monkeypatch.setattr(session, "run", exported_again)
        out = measure("float32.tflite", "int8.tflite", "batches=none", "threads=1")
        (folder,) = sessions(tmp_path)
        # The ratio of the other is to it.
        for name in ("float32", "int8"):
            reason = "1 thread: the file of float32 changed meanwhile: measure again"
            assert reason in json.loads((folder / name / "result.json").read_text())["invalid"]
            assert f"INVALID {name}, {reason}" in " ".join(out.split())

    @pytest.mark.slow
    def test_a_short_limit_gives_invalid_results(self, made, measure, tmp_path, monkeypatch):
        monkeypatch.setitem(PROFILES, "quick", replace(FAST, min_duration_s=30.0, min_calls=10**6))
        out = measure(str(made / "int8.tflite"), "limit=0.1", "batches=none", "threads=1")
        assert "INVALID int8, 1 thread: 30 s must be timed, got" in out
        assert "1000000 calls must be timed, got" in out and "Set a higher limit=" in out
        (folder,) = sessions(tmp_path)
        assert json.loads((folder / "int8" / "result.json").read_text())["metrics"]["valid"] == 0

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["nothing.tflite"], "nothing.tflite must be a .tflite file, got no such file"),
            (["flat.tflite"], r"flat.tflite must have one input \(1, h, w, 3\)"),
            (["any.tflite"], "any.tflite must take images of one size, got any height and width"),
            (["epoch=3.tflite"], "epoch=3.tflite must be a TFLite flatbuffer"),
            (["ref=int8.tflite"], r"arguments must be name=value .* got 'ref=int8.tflite'"),
            (["bad.tflite"], "bad.tflite must be a TFLite flatbuffer"),
            (["int8.tflite", "int8.tflite"], "files must be distinct"),
            (["int8.tflite", "sweep=last"], "either files or cells must be chosen, got int8.tflite and sweep="),
            (["int8.tflite", "reference=float32.tflite"], "reference must be one of the files, got 'float32.tflite'"),
            (["reference=int8.tflite"], "reference must be one of the files, got int8.tflite and no files"),
            (["int8.tflite", "threads=none"], "threads must hold at least one number"),
            (["int8.tflite", "speed=1"], r"arguments must be name=value with one of dataset, .* got 'speed=1'"),
            (["int8.tflite", "target=a/b"], "target must be letters"),
            (["send=.", "out=other"], r"send takes a session as it was measured, got out=other with send=\."),
            (["send=.", "sweep=last"], r"send takes a session as it was measured, got sweep=last with send=\."),
            (["send=."], r"send must be the folder of a session, got '\.'"),
            (["tracking.uri=http://127.0.0.1:9"], "the MLflow server http://127.0.0.1:9 does not answer"),
        ],
    )
    def test_mistakes_are_refused_before_all_else(self, made, measure, monkeypatch, words, message):
        monkeypatch.chdir(made)
        for name in ("bad.tflite", "epoch=3.tflite"):
            (made / name).write_bytes(b"garbage" * 100)
        monkeypatch.setattr("pipelines.device.session.run", lambda *_, **__: pytest.fail("it measured"))
        refusal = measure(*words, fails=True)
        assert re.match(f"opscore: {message}", refusal)
        assert "\n" not in refusal

    @pytest.mark.slow
    def test_waits_for_its_turn(self, made, measure, monkeypatch):
        inside, leave = threading.Event(), threading.Event()
        real = session.run

        def run(*words, **named):
            assert leave.is_set(), "it measures beside another"
            return real(*words, **named)

        monkeypatch.setattr("pipelines.device.session.run", run)

        def hold() -> None:
            with runtime.machine_lock("measuring", on_wait=lambda: None):
                inside.set()
                leave.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        inside.wait(60)
        threading.Timer(1, leave.set).start()
        measure(str(made / "int8.tflite"), "batches=none", "threads=1")
        holder.join()


@pytest.mark.slow
def test_files_on_disk_load_no_heavy_library(made, tmp_path):
    code = (
        "import sys; from dataclasses import replace; from pipelines.device.settings import PROFILES; "
        "PROFILES['quick'] = replace(PROFILES['quick'], min_duration_s=0, min_calls=5, starts=1); "
        "from pipelines.commands.cli import main; main(); "
        f"print([name for name in {(*HEAVY, 'mlflow')} if name in sys.modules])"
    )
    words = ["measure", str(made / "int8.tflite"), "profile=quick", "threads=1", f"out={tmp_path}"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
