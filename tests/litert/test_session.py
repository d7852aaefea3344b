import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipelines.litert.accuracy import top_k_accuracy
from pipelines.litert.child import WINDOWS
from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.session import Request, Settings, measure
from pipelines.litert.size import compressed_bytes
from pipelines.system.mapped import in_file
from tests.places import until

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Settings(threads=1, warmup_calls=2, min_duration_s=0.0, min_calls=25, timeout_s=60)


class TestSettings:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("threads", 0),
            ("threads", 1.5),
            ("warmup_calls", -1),
            ("min_duration_s", -0.1),
            ("min_duration_s", math.nan),
            ("min_calls", 0),
            ("timeout_s", 0),
            ("timeout_s", None),
        ],
    )
    def test_bad_values_are_named(self, field, value):
        with pytest.raises(ValueError, match=f"^measurement.{field} must be"):
            Settings(**{**asdict(SETTINGS), field: value})

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("default", (1, 10, 2.0, 200, 1800)),
            ("quick", (1, 10, 0.3, 50, 1800)),
            ("thorough", (1, 10, 10.0, 662, 1800)),
        ],
    )
    def test_yaml(self, name, expected):
        from hydra import compose, initialize_config_dir
        from hydra.utils import instantiate

        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            settings = instantiate(compose(overrides=[f"+measurement={name}"]).measurement)
        assert settings == Settings(
            **dict(
                zip(
                    ("threads", "warmup_calls", "min_duration_s", "min_calls", "timeout_s"),
                    expected,
                    strict=True,
                )
            )
        )


def measured(exported_model, images, folder, *, reference=None, settings=SETTINGS):
    labels = np.arange(len(images)) % 10
    return measure(
        exported_model,
        reference=reference,
        images=images,
        labels=labels,
        settings=settings,
        seed=0,
        folder=folder,
    )


def commands_with(folder: Path) -> list[list[str]]:
    """The command lines of running processes that name the folder."""
    running = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    return [command for command in running if any(str(folder) in word for word in command)]


class TestMeasure:
    def test_with_a_reference(self, made, images, tmp_path, monkeypatch):
        monkeypatch.chdir(made)  # paths may be relative, and the current folder any
        result = measured(Path("int8.tflite"), images, tmp_path / "new", reference=Path("float32.tflite"))
        expected = ExportedModel(made / "int8.tflite").logits(images)
        labels = np.arange(60) % 10
        assert np.array_equal(result.logits, expected)
        assert result.correct == (expected.argmax(axis=1) == labels).sum() == result.confusion.trace()
        assert result.accuracy == result.correct / 60
        assert result.accuracy <= result.top5_accuracy == top_k_accuracy(expected, labels)
        assert result.confusion.sum(axis=1).tolist() == [6] * 10
        assert 0 < result.p50_ms <= result.p90_ms
        assert result.ratio_low <= 0.98 * result.ratio < 1.02 * result.ratio <= result.ratio_high
        assert result.ratio_low <= result.p50_ms / result.reference_p50_ms <= result.ratio_high
        assert min(result.load_ms, result.first_call_ms, result.images_per_s) > 0
        assert result.file_bytes == (made / "int8.tflite").stat().st_size
        assert result.compressed_bytes == compressed_bytes(made / "int8.tflite")

        with np.load(tmp_path / "new" / "predictions.npz") as saved:
            assert np.array_equal(saved["logits"], result.logits)
        with np.load(tmp_path / "new" / "latency.npz") as saved:
            assert np.median(saved["candidate"]) / 1e6 == pytest.approx(result.p50_ms)
            assert np.median(saved["reference"]) / 1e6 == pytest.approx(result.reference_p50_ms)
            assert len(saved["rounds"]) == WINDOWS
            for name in ("candidate", "reference"):
                assert len(saved[name]) >= 25
                assert len(saved[f"{name}_bursts"]) == saved["rounds"].sum()
                assert saved[f"{name}_bursts"].sum() == len(saved[name])

    @pytest.mark.parametrize("same", [False, True])
    def test_alone(self, made, images, tmp_path, same):
        path = made / "float32.tflite"
        link = tmp_path / "link.tflite"
        link.symlink_to(path)
        result = measured(path, images, tmp_path, reference=link if same else None)
        assert result.reference_p50_ms is None
        assert result.ratio is result.ratio_low is result.ratio_high is None
        with np.load(tmp_path / "latency.npz") as saved:
            assert saved.files == ["candidate", "candidate_bursts", "rounds"]

    def test_ratio_of_a_copy_contains_one(self, made, images, tmp_path):
        shutil.copyfile(made / "float32.tflite", tmp_path / "copy.tflite")
        result = measured(tmp_path / "copy.tflite", images, tmp_path, reference=made / "float32.tflite")
        assert result.ratio_low <= 1 <= result.ratio_high

    def test_missing_reference_and_bad_images_are_refused_at_once(self, made, images, tmp_path):
        path = made / "float32.tflite"
        with pytest.raises(ValueError, match="got no such file: export the exported model first"):
            measured(path, images, tmp_path, reference=tmp_path / "none.tflite")
        with pytest.raises(ValueError, match="images must be uint8"):
            measured(path, images.astype(np.float32), tmp_path)

    def test_garbage_is_refused_by_the_child(self, images, tmp_path):
        (tmp_path / "bad.tflite").write_bytes(b"garbage" * 100)
        with pytest.raises(RuntimeError, match=r"exit code 1; the last lines(.|\n)*must be a TFLite flatbuffer"):
            measured(tmp_path / "bad.tflite", images, tmp_path)

    def test_timeout(self, made, images, tmp_path):
        hasty = Settings(**{**asdict(SETTINGS), "timeout_s": 0.01})
        with pytest.raises(RuntimeError, match=r"was stopped after measurement.timeout_s=0.01 seconds"):
            measured(made / "int8.tflite", images, tmp_path, settings=hasty)

    def test_timeout_holds_for_all_windows_together(self, made, images, tmp_path, monkeypatch):
        # Each of the five windows would take 4 s.
        slow = Settings(**{**asdict(SETTINGS), "min_duration_s": 10.0, "timeout_s": 3})
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with pytest.raises(RuntimeError, match=r"was stopped after measurement.timeout_s=3 seconds"):
            measured(made / "int8.tflite", images, tmp_path, reference=made / "float32.tflite", settings=slow)
        assert until(lambda: not commands_with(tmp_path))

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            (
                "echo last words >&2; kill -9 $$",
                "was killed by SIGKILL; the last lines of its stderr:\nlast words",
            ),
            ("kill -6 $$", "was killed by SIGABRT, its stderr is empty"),
            ("exit 3", "ended with exit code 3"),
            ("exit 0", "left no result"),
        ],
    )
    def test_a_child_that_dies(self, made, images, tmp_path, monkeypatch, script, message):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\nulimit -c 0\n{script}\n")
        python.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(python))
        with pytest.raises(RuntimeError, match=message):
            measured(made / "int8.tflite", images, tmp_path)
        assert not (tmp_path / "latency.npz").exists()


class TestChild:
    def test_loads_no_training_library(self):
        code = (
            "import sys, pipelines.litert.child as child; "
            "print([name for name in ('tensorflow', 'tf_keras', 'keras', 'mlflow', 'hydra', 'scipy') "
            "if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_answers_a_request_by_file(self, made, images, tmp_path):
        request = Request(
            exported_model=str(made / "int8.tflite"),
            reference=None,
            images=in_file(images, tmp_path / "images.npy"),
            settings=SETTINGS,
            seed=0,
        )
        (tmp_path / "request.json").write_text(json.dumps(asdict(request)))
        command = [sys.executable, "-m", "pipelines.litert.child", str(tmp_path / "request.json")]
        subprocess.run(command, check=True, cwd=ROOT, env=dict(os.environ))
        with np.load(tmp_path / "answer.npz") as result:
            names = {"load_ms", "first_call_ms", "images_per_s", "logits", "latency_ns", "bursts", "rounds"}
            assert set(result.files) == names
        assert {path.name for path in tmp_path.iterdir()} == {"images.npy", "request.json", "answer.npz"}
