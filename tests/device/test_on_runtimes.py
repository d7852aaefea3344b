"""Sessions with more than one runtime, through the command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device.recorded_runs import FAST_COMMAND, RecordedRuns, sessions
from tests.places import ROOT

pytest.importorskip("openvino")

# A runtime in a file of its own: LiteRT whose answers are those of other classes.
DOCTORED = """
from pipelines.runtimes.litert import LiteRT, _Loaded


class _Turned(_Loaded):
    def query(self, image):
        return super().query(image)[::-1]


class Doctored(LiteRT):
    name = "doctored"

    def load(self, path, threads, *, batch=1):
        return _Turned(path, threads, batch=batch)


# Takes one file only.
class Refusing(LiteRT):
    name = "refusing"

    def load(self, path, threads, *, batch=1):
        if path.name == "uint8.tflite":
            return super().load(path, threads, batch=batch)
        raise ValueError(f"{path.name} must be another model, got this one: leave it out")


# Finds at the first call that it cannot run a model.
class _Late(_Loaded):
    def query(self, image):
        raise RuntimeError("no kernel\\n  for this model")


class Late(LiteRT):
    name = "late"

    def load(self, path, threads, *, batch=1):
        return _Late(path, threads, batch=batch)


# Takes any file.
class Lenient(LiteRT):
    name = "lenient"

    def load(self, path, threads, *, batch=1):
        return super().load(path.with_name("float32.tflite"), threads, batch=batch)


RUNTIMES = (Doctored(), Late(), Lenient(), Refusing())
"""


def results(folder: Path) -> dict[tuple[str, str], dict]:
    found = [json.loads(path.read_text()) for path in folder.glob("*/result.json")]
    return {(one["label"], one["runtime"]): one for one in found}


@pytest.mark.slow
def test_models_on_runtimes_in_one_session(made, measure, tmp_path, monkeypatch):
    monkeypatch.chdir(made)
    out = measure("float32.tflite", "int8.tflite", "runtimes=litert,openvino,openvino_f32", "threads=1,2")
    assert "runtime" in out and "same class" in out
    (folder,) = sessions(tmp_path)
    found = results(folder)
    assert set(found) == {(name, one) for name in ("float32", "int8") for one in ("litert", "openvino", "openvino_f32")}
    assert found["float32", "openvino_f32"]["precision"] == "float32"
    assert found["int8", "openvino"]["precision"] == "int8"
    assert found["int8", "openvino"]["version"].startswith("openvino 20")
    for (label, runtime), one in found.items():
        # All times are compared with the reference on LiteRT.
        is_reference = (label, runtime) == ("float32", "litert")
        assert one["reference"] == (None if is_reference else ["float32", "litert"])
        assert ("ratio_2t" in one["metrics"]) is not is_reference
        assert one["metrics"]["agreement"] == 1 or runtime != "litert"
        assert ("delegate_partitions" in one["metrics"]) is (runtime == "litert")
        assert one["metrics"]["peak_memory_mb"] > 0 and one["metrics"]["load_ms"] > 0
    assert found["float32", "openvino_f32"]["metrics"]["agreement_changed"] == 0


def measured(folder: Path, files: list[Path], runtimes: str) -> subprocess.CompletedProcess[str]:
    """`opscore measure` of sources that have the file of DOCTORED, in a process of its own."""
    if not (folder / "source").exists():
        shutil.copytree(ROOT / "pipelines", folder / "source" / "pipelines")
        (folder / "source" / "pipelines" / "runtimes" / "doctored.py").write_text(DOCTORED)
    words = ["measure", *map(str, files), "--runtimes", runtimes, "--profile", "quick", "--threads", "1"]
    return subprocess.run(
        [sys.executable, "-c", FAST_COMMAND, *words, "--batches", "none", "--out", "measured"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "source")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_runtime_that_answers_differently_does_not_count(made, tmp_path):
    ended = measured(tmp_path, [made / "float32.tflite"], "litert,doctored,refusing,late")
    assert ended.returncode == 0, ended.stderr
    printed = " ".join(ended.stdout.split())
    assert "INVALID float32 on doctored, it must give LiteRT's class, and finite numbers, to 99%" in printed
    (row,) = (line for line in ended.stdout.splitlines() if line.split()[1:2] == ["doctored"] and "to" in line.split())
    assert row.rstrip().endswith("INVALID")
    sentences = [
        "float32 on refusing is left out: float32.tflite must be another model, got this one: leave it out",
        "float32 on late is left out: no kernel for this model",
    ]
    assert all(sentence in printed for sentence in sentences)
    (folder,) = (tmp_path / "measured").iterdir()
    assert json.loads((folder / "session.json").read_text())["left_out"] == sentences
    found = results(folder)
    assert set(found) == {("float32", "litert"), ("float32", "doctored")}
    assert found["float32", "doctored"]["metrics"]["valid"] == 0
    assert found["float32", "doctored"]["metrics"]["agreement_changed"] > 0.5


@pytest.mark.slow
def test_answers_are_compared_with_litert_that_is_not_timed(made, tmp_path):
    ended = measured(tmp_path, [made / "float32.tflite"], "doctored")
    assert ended.returncode == 0, ended.stderr
    (folder,) = (tmp_path / "measured").iterdir()
    assert results(folder)["float32", "doctored"]["metrics"]["agreement_changed"] > 0.5


@pytest.mark.slow
def test_model_that_litert_lacks_an_operator_for(made, tmp_path):
    shutil.copy(made / "float32.tflite", tmp_path)
    path = made / "custom.tflite"
    ended = measured(tmp_path, [tmp_path / "float32.tflite", path], "litert,lenient")
    assert ended.returncode == 0, ended.stderr
    assert "custom is left out: " in " ".join(ended.stdout.split())
    assert "the answers of custom are compared with nothing, as LiteRT gives none: " in ended.stderr
    (folder,) = (tmp_path / "measured").iterdir()
    found = results(folder)
    assert set(found) == {("float32", "litert"), ("float32", "lenient"), ("custom", "lenient")}
    assert found["custom", "lenient"]["agreement"] is None and found["float32", "lenient"]["metrics"]["agreement"] == 1


@pytest.mark.slow
def test_first_runtime_may_refuse_a_model(made, tmp_path):
    ended = measured(tmp_path, [made / "uint8.tflite", made / "float32.tflite"], "refusing")
    assert ended.returncode == 0, ended.stderr
    assert "float32 on refusing is left out: float32.tflite must be" in " ".join(ended.stdout.split())
    (folder,) = (tmp_path / "measured").iterdir()
    assert set(results(folder)) == {("uint8", "refusing")}
    refused = measured(tmp_path, [made / "float32.tflite"], "refusing")
    assert refused.returncode == 1 and "Traceback" not in refused.stderr
    assert "float32.tflite must be another model, got this one" in refused.stderr


@pytest.mark.slow
def test_runs_keep_the_figures_of_each_runtime(cells: RecordedRuns, measure):
    out = measure(
        f"tracking.uri={cells.uri}", "experiment=mine", "threads=1", "target=here", "runtimes=litert, openvino"
    )
    assert "random pixels" not in out  # on stderr
    assert "2 runs got" in out
    own = cells.metrics(cells.int8, "here", "openvino")
    assert {"p50_ms_1t", "ratio_1t", "agreement", "load_ms", "images_per_s_b4_1t"} <= set(own)
    assert "ratio_1t" in cells.metrics(cells.int8, "here")
    assert "ratio_1t" in cells.metrics(cells.baseline, "here", "openvino")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runtimes=tensorrt"], "runtimes must be of litert, litert_fp16, openvino, openvino_f32, got 'tensorrt'"),
        (["runtimes=litert,litert"], "runtimes must be distinct, got litert,litert"),
    ],
)
def test_wrong_runtimes(words: list[str], message: str, made, measure):
    assert message in measure(str(made / "int8.tflite"), *words, fails=True)
