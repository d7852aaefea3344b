import gzip
import json
import math
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import pytest
from zlib_ng import zlib_ng

from pipelines.litert.accuracy import accuracy, confusion_matrix, top_k_accuracy
from pipelines.litert.exported_model import ExportedModel, append_labels, tensor_dtypes
from pipelines.litert.latency import Percentiles, time_interleaved
from pipelines.litert.session import Request, Settings, measure
from pipelines.litert.size import PIECE, compressed_bytes, file_bytes
from pipelines.results.statistics import ratio_interval
from pipelines.system.mapped import in_file

ROOT = Path(__file__).resolve().parents[2]
NAMES = tuple(f"class {index}" for index in range(10))
SETTINGS = Settings(threads=1, warmup_calls=2, min_duration_s=0.0, min_calls=25, timeout_s=60)


@pytest.fixture(scope="session")
def images(made) -> np.ndarray:
    return np.load(made / "keras.npz")["images"]


@pytest.fixture(scope="session")
def keras_logits(made) -> np.ndarray:
    return np.load(made / "keras.npz")["logits"]


class TestExportedModel:
    def test_float32_matches_keras(self, made, images, keras_logits):
        exported_model = ExportedModel(made / "float32.tflite")
        assert (exported_model.image_shape, exported_model.classes) == ((8, 8, 3), 10)
        assert exported_model.input_dtype == np.float32
        logits = exported_model.logits(images)
        assert logits.shape == (60, 10) and logits.dtype == np.float32
        np.testing.assert_allclose(logits, keras_logits, atol=1e-4)
        assert (logits.argmax(axis=1) == keras_logits.argmax(axis=1)).all()

    @pytest.mark.parametrize("dtype", ["uint8", "int8"])
    def test_quantized_is_near_keras(self, made, images, keras_logits, dtype):
        exported_model = ExportedModel(made / f"{dtype}.tflite")
        assert exported_model.input_dtype == dtype
        logits = exported_model.logits(images)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, keras_logits, atol=0.03 * np.ptp(keras_logits))

    def test_uint8_and_int8_inputs_are_equivalent(self, made, images):
        one, other = (ExportedModel(made / f"{dtype}.tflite").logits(images) for dtype in ("uint8", "int8"))
        np.testing.assert_allclose(one, other, atol=1e-6)

    def test_threads_do_not_change_the_answer(self, made, images):
        path = made / "float32.tflite"
        assert np.array_equal(ExportedModel(path).logits(images), ExportedModel(path, threads=2).logits(images))

    def test_logits_of_no_image(self, made, images):
        assert ExportedModel(made / "float32.tflite").logits(images[:0]).shape == (0, 10)

    @pytest.mark.parametrize(
        "image",
        [np.zeros((8, 8, 3), np.float32), np.zeros((8, 9, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8)],
    )
    def test_refuses_other_images(self, made, image):
        with pytest.raises(ValueError, match=r"must be uint8 of shape \(8, 8, 3\), got .*: pass raw RGB"):
            ExportedModel(made / "float32.tflite").query(image)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, "bad.tflite must be a .tflite file, got no such file"),
            (b"", "bad.tflite must be a TFLite flatbuffer"),
            (b"garbage" * 100, "bad.tflite must be a TFLite flatbuffer"),
        ],
    )
    @pytest.mark.parametrize("load", [ExportedModel, tensor_dtypes])
    def test_refuses_other_files(self, tmp_path, content, message, load):
        path = tmp_path / "bad.tflite"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load(path)

    @pytest.mark.parametrize("name", ["flat", "gray"])
    def test_refuses_models_without_rgb_input(self, made, name):
        with pytest.raises(ValueError, match=rf"{name}.tflite must have one input \(1, h, w, 3\)"):
            ExportedModel(made / f"{name}.tflite")

    def test_tensor_dtypes_show_the_effect_of_quantization(self, made):
        assert set(tensor_dtypes(made / "float32.tflite")) == {"float32", "int32"}
        counts = tensor_dtypes(made / "int8.tflite")
        assert counts["float32"] == 0
        assert counts["int8"] > 0
        assert tensor_dtypes(made / "uint8.tflite")["uint8"] == 2


class TestCodes:
    @pytest.mark.parametrize(
        ("dtype", "scale", "zero_point", "expected"),
        [
            ("int8", 1.0, -128, {0: -128, 100: -28, 255: 127}),
            ("uint8", 0.5, 0, {0: 0, 100: 200, 255: 255}),  # 510 is clipped
            ("uint8", 2.0, 10, {0: 10, 1: 11, 3: 12, 255: 138}),  # halves away from zero
            ("int16", 0.25, 0, {1: 4, 255: 1020}),
        ],
    )
    def test_by_hand(self, dtype, scale, zero_point, expected):
        from pipelines.litert.exported_model import _codes

        codes = _codes(Path("x"), np.dtype(dtype), scale, zero_point)
        assert codes is not None and codes.dtype == dtype
        assert {pixel: int(codes[pixel]) for pixel in expected} == expected

    @pytest.mark.parametrize(("dtype", "scale"), [("int8", 0.0), ("float64", 0.0), ("int32", 1.0)])
    def test_refuses_other_inputs(self, dtype, scale):
        from pipelines.litert.exported_model import _codes

        with pytest.raises(ValueError, match=r"the input of x.tflite must be float32 or quantized"):
            _codes(Path("x.tflite"), np.dtype(dtype), scale, 0)


class TestLabels:
    def test_travel_and_change_no_answer(self, made, images, tmp_path):
        for name in ("float32", "int8"):
            path = shutil.copy(made / f"{name}.tflite", tmp_path)
            assert ExportedModel(path).labels == ()
            append_labels(path, NAMES)
            labelled = ExportedModel(path)
            assert labelled.labels == NAMES
            assert np.array_equal(labelled.logits(images), ExportedModel(made / f"{name}.tflite").logits(images))
            assert tensor_dtypes(path) == tensor_dtypes(made / f"{name}.tflite")
            assert zipfile.ZipFile(path).read("labels.txt").decode().split("\n") == list(NAMES)

    def test_same_labels_give_same_bytes(self, made, tmp_path):
        paths = [shutil.copy(made / "int8.tflite", tmp_path / name) for name in ("a.tflite", "b.tflite")]
        append_labels(paths[0], NAMES)
        append_labels(paths[1], NAMES)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert zipfile.ZipFile(paths[0]).infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (NAMES[:9], "one for each of the 10 classes of .*, got 9"),
            ((*NAMES[:9], "a\nb"), "one non-empty line, got 'a.nb'"),
            ((*NAMES[:9], ""), "one non-empty line, got ''"),
        ],
    )
    def test_refused(self, made, tmp_path, labels, message):
        path = shutil.copy(made / "int8.tflite", tmp_path / "copy.tflite")
        before = path.read_bytes()
        with pytest.raises(ValueError, match=message):
            append_labels(path, labels)
        assert path.read_bytes() == before

    def test_written_once(self, made, tmp_path):
        path = shutil.copy(made / "int8.tflite", tmp_path / "copy.tflite")
        append_labels(path, NAMES)
        with pytest.raises(ValueError, match="must carry no labels yet, got 10"):
            append_labels(path, NAMES)


class TestAccuracy:
    LOGITS = np.array([[3, 1, 2], [0, 5, 1], [1, 2, 9], [4, 3, 0]], np.float32)
    LABELS = np.array([0, 2, 2, 2])

    def test_by_hand(self):
        assert accuracy(self.LOGITS, self.LABELS) == 0.5
        assert [top_k_accuracy(self.LOGITS, self.LABELS, k) for k in (1, 2, 3, 5)] == [0.5, 0.75, 1.0, 1.0]
        matrix = confusion_matrix(self.LOGITS, self.LABELS, 3)
        assert matrix.dtype == np.int64
        assert matrix.tolist() == [[1, 0, 0], [0, 0, 0], [1, 1, 1]]

    def test_lower_class_comes_first_in_ties(self):
        logits = np.array([[1, 1, 0], [1, 1, 0]], np.float32)
        labels = np.array([0, 1])
        assert accuracy(logits, labels) == 0.5
        assert top_k_accuracy(logits, labels, 2) == 1.0
        assert confusion_matrix(logits, labels, 3).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("metric", [accuracy, top_k_accuracy, lambda a, b: confusion_matrix(a, b, 3)])
    def test_refuses_logits_that_are_not_finite(self, value, metric):
        logits = self.LOGITS.copy()
        logits[2, 0] = value
        with pytest.raises(ValueError, match="logits must be finite, got 1 of 4 images"):
            metric(logits, self.LABELS)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ([0, 1, 2], "pass one label per row"),
            ([0, 1, 2, 3], "labels must be integers from 0 to 2, got int64 from 0 to 3"),
            ([0, 1, 2, -1], "labels must be integers from 0 to 2, got int64 from -1"),
            ([0.0, 1.0, 2.0, 0.0], "labels must be integers from 0 to 2, got float64"),
        ],
    )
    def test_refuses_other_labels(self, labels, message):
        with pytest.raises(ValueError, match=message):
            accuracy(self.LOGITS, np.array(labels))

    def test_refuses_other_sizes(self):
        with pytest.raises(ValueError, match="k must be 1 or more"):
            top_k_accuracy(self.LOGITS, self.LABELS, 0)
        with pytest.raises(ValueError, match="must have 4 columns, got 3"):
            confusion_matrix(self.LOGITS, self.LABELS, 4)
        with pytest.raises(ValueError, match="n of at least 1"):
            accuracy(self.LOGITS[:0], self.LABELS[:0])


def busy(microseconds: int):
    def query(image: np.ndarray) -> None:
        end = perf_counter_ns() + 1000 * microseconds
        while perf_counter_ns() < end:
            pass

    return query


class TestTiming:
    IMAGES = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)

    def trace(self, seed: int, calls: int = 20) -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        queries = [lambda image, name=name: seen.append((name, int(image[0, 0, 0]))) for name in "ab"]
        time_interleaved(queries, self.IMAGES, warmup_calls=4, min_duration_s=0, min_calls=calls, seed=seed)
        return seen

    def test_each_round_asks_all_about_one_image(self):
        seen = self.trace(seed=0)[8:]
        for index in range(20):
            pair = seen[2 * index : 2 * index + 2]
            assert {name for name, _ in pair} == {"a", "b"}
            assert {image for _, image in pair} == {index % 3}

    def test_warm_up_comes_first_and_is_not_counted(self):
        seen = self.trace(seed=0, calls=1)
        assert seen[:8] == [(name, index % 3) for index in range(4) for name in "ab"]
        assert len(seen) == 10

    def test_order_is_random_and_follows_the_seed(self):
        assert self.trace(seed=1) == self.trace(seed=1)
        assert self.trace(seed=1) != self.trace(seed=2)
        assert {name for name, _ in self.trace(seed=1)[8::2]} == {"a", "b"}

    @pytest.mark.parametrize(("min_duration_s", "min_calls", "least"), [(0.0, 7, 7), (0.02, 1, 40), (0.001, 30, 30)])
    def test_goes_on_until_duration_and_calls_are_met(self, min_duration_s, min_calls, least):
        times = time_interleaved(
            [busy(500), busy(1000)],
            self.IMAGES,
            warmup_calls=0,
            min_duration_s=min_duration_s,
            min_calls=min_calls,
            seed=0,
        )
        assert len(times[0]) == len(times[1]) >= min_calls
        assert all(taken.dtype == np.int64 for taken in times)
        assert sum(taken.sum() for taken in times) >= min_duration_s * 1e9 * len(times)
        # The last round was needed.
        assert len(times[0]) == min_calls or sum(taken[:-1].sum() for taken in times) < (
            min_duration_s * 1e9 * len(times)
        )
        assert len(times[0]) <= least
        assert times[0].min() >= 500_000

    def test_ratio_of_known_durations(self):
        times = time_interleaved(
            [busy(150), busy(300)], self.IMAGES, warmup_calls=5, min_duration_s=0, min_calls=400, seed=0
        )
        ratio, low, high = ratio_interval(times[0], times[1], seed=0)
        assert low <= ratio <= high
        assert ratio == pytest.approx(0.5, rel=0.1)

    def test_garbage_collection_comes_back(self):
        import gc

        seen = []
        time_interleaved(
            [lambda image: seen.append(gc.isenabled())],
            self.IMAGES,
            warmup_calls=0,
            min_duration_s=0,
            min_calls=1,
            seed=0,
        )
        assert seen == [False]
        assert gc.isenabled()

    def test_percentiles_by_hand(self):
        found = Percentiles.of(np.arange(0, 101_000_000, 1_000_000))
        assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((50, 90, 99))
        assert Percentiles.of(np.array([1_000_000, 2_000_000])).p90_ms == pytest.approx(1.9)


class TestSize:
    def test_zeros_compress_and_noise_does_not(self, tmp_path):
        zeros, noise = tmp_path / "zeros", tmp_path / "noise"
        zeros.write_bytes(bytes(100_000))
        noise.write_bytes(np.random.default_rng(0).bytes(100_000))
        assert file_bytes(zeros) == file_bytes(noise) == 100_000
        assert compressed_bytes(zeros) < 200
        assert 100_000 <= compressed_bytes(noise) < 100_100

    @pytest.mark.parametrize("length", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
    def test_pieces_take_as_much_as_the_whole_stream(self, tmp_path, length):
        # Within reach of what stands before a piece, and nowhere else, is each of these bytes known.
        content = np.resize(np.random.default_rng(0).integers(0, 256, 30_000, dtype=np.uint8), length).tobytes()
        (tmp_path / "repeats").write_bytes(content)
        assert compressed_bytes(tmp_path / "repeats") == pytest.approx(len(zlib_ng.compress(content, 6)), rel=0.002)

    def test_compressed_size_of_clustered_and_pruned_weights(self, tmp_path):
        weights = np.random.default_rng(0).standard_normal(2**18).astype(np.float32)
        few = np.quantile(weights, np.linspace(0.03, 0.97, 16)).astype(np.float32)
        clustered = few[np.abs(weights[:, None] - few).argmin(axis=1)]
        pruned = np.where(np.abs(weights) < np.quantile(np.abs(weights), 0.8), np.float32(0), weights)
        for kept in (weights, clustered, pruned):
            (tmp_path / "weights").write_bytes(kept.tobytes())
            expected = len(gzip.compress(kept.tobytes(), 6))
            assert compressed_bytes(tmp_path / "weights") == pytest.approx(expected, rel=0.005)

    def test_of_an_empty_file(self, tmp_path):
        (tmp_path / "empty").touch()
        assert (file_bytes(tmp_path / "empty"), compressed_bytes(tmp_path / "empty")) == (0, 8)


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
        assert len(result.latency_ns) == len(result.reference_latency_ns) == 32  # 8 loads, 4 calls each
        assert 0 < result.p50_ms <= result.p90_ms <= result.p99_ms
        assert result.ratio == pytest.approx(result.p50_ms / result.reference_p50_ms)
        assert result.ratio_low <= result.ratio <= result.ratio_high
        assert min(result.load_ms, result.first_call_ms, result.images_per_s) > 0
        assert result.file_bytes == file_bytes(made / "int8.tflite")
        assert result.compressed_bytes == compressed_bytes(made / "int8.tflite")

        with np.load(tmp_path / "new" / "predictions.npz") as saved:
            assert np.array_equal(saved["logits"], result.logits)
        with np.load(tmp_path / "new" / "latency.npz") as saved:
            assert np.array_equal(saved["candidate"], result.latency_ns)
            assert np.array_equal(saved["reference"], result.reference_latency_ns)

    @pytest.mark.parametrize("same", [False, True])
    def test_alone(self, made, images, tmp_path, same):
        path = made / "float32.tflite"
        link = tmp_path / "link.tflite"
        link.symlink_to(path)
        result = measured(path, images, tmp_path, reference=link if same else None)
        assert result.reference_latency_ns is result.reference_p50_ms is None
        assert result.ratio is result.ratio_low is result.ratio_high is None
        with np.load(tmp_path / "latency.npz") as saved:
            assert saved.files == ["candidate"]

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
            result=str(tmp_path / "result.npz"),
            threads=1,
            warmup_calls=0,
            min_duration_s=0,
            min_calls=3,
            seed=0,
        )
        (tmp_path / "request.json").write_text(json.dumps(asdict(request)))
        command = [sys.executable, "-m", "pipelines.litert.child", str(tmp_path / "request.json")]
        subprocess.run(command, check=True, cwd=ROOT, env=dict(os.environ))
        with np.load(tmp_path / "result.npz") as result:
            assert set(result.files) == {"load_ms", "first_call_ms", "images_per_s", "logits", "latency_ns"}
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "images.npy",
            "request.json",
            "result.npz",
        ]
