"""Libraries that run exported models."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.device.answers import compared
from pipelines.device.subjects import Subject, on_runtimes
from pipelines.litert.flatbuffer import packed, parse
from pipelines.litert.kernels import kernels
from pipelines.litert.stream import random_images
from pipelines.runtimes.base import named, runtimes
from pipelines.runtimes.litert import Compiled, _Loaded
from tests.places import ROOT

pytest.importorskip("openvino")


def test_each_file_of_the_package_brings_its_own() -> None:
    assert list(runtimes()) == ["litert", "litert_fp16", "openvino", "openvino_f32"]
    with pytest.raises(ValueError, match="runtimes must be of litert, litert_fp16, openvino, openvino_f32, got 'onnx'"):
        named("onnx")


def test_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(ValueError, match=r"runtimes=openvino needs OpenVINO.*pip install 'opscore\[openvino\]'"):
        named("openvino").version()


@pytest.mark.parametrize("name", ["float32", "uint8", "int8"])
@pytest.mark.parametrize("runtime", ["litert", "litert_fp16", "openvino", "openvino_f32"])
def test_answers_are_those_of_litert(name: str, runtime: str, made: Path) -> None:
    path = made / f"{name}.tflite"
    images = random_images((8, 8, 3), 20, 0)
    expected = np.stack([named("litert").load(path, 1).query(image) for image in images])
    model = named(runtime).load(path, 1)
    found = np.stack([model.query(image) for image in images])
    span = float(np.ptp(expected))
    np.testing.assert_allclose(found, expected, atol=0.03 * span)
    together = named(runtime).load(path, 2, batch=20)
    np.testing.assert_allclose(together.query_batch(images), found, atol=0.03 * span)
    floats = {"openvino": ("float32", "bfloat16"), "litert_fp16": ("float16",)}.get(runtime, ("float32",))
    assert model.precision in (floats if name == "float32" else ("int8",))


def test_loading_answers_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call is timed apart from the load."""

    def answer(*_: object) -> None:
        raise AssertionError("a call while loading")

    monkeypatch.setattr(Compiled, "query_batch", answer)
    assert named("litert_fp16").load(made / "float32.tflite", 1).image_shape == (8, 8, 3)


@pytest.mark.parametrize("runtime", ["litert", "litert_fp16", "openvino", "openvino_f32"])
def test_load_time_has_no_imports(runtime: str, made: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipelines.runtimes.base import named; "
        "runtime, path = named(sys.argv[1]), Path(sys.argv[2]); runtime.prepare(path); known = {*sys.modules}; "
        "runtime.load(path, 1); new = {*sys.modules} - known; "
        "print([one for one in new if one.partition('.')[0] in ('ai_edge_litert', 'openvino', 'pipelines')])"
    )
    command = [sys.executable, "-c", code, runtime, str(made / "float32.tflite")]
    assert subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip() == "[]"


@pytest.mark.slow
def test_float16_weights_are_computed_in_float32(tmp_path: Path) -> None:
    import tensorflow as tf
    import tf_keras

    network = tf_keras.Sequential(
        [
            tf_keras.layers.Input((8, 8, 3), batch_size=1),
            tf_keras.layers.Conv2D(16, 3),
            tf_keras.layers.Flatten(),
            tf_keras.layers.Dense(4),
        ]
    )
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    (path := tmp_path / "float16.tflite").write_bytes(converter.convert())
    # OpenVINO names the type of the stored weights where it is asked for that of the layer.
    assert named("openvino_f32").load(path, 1).precision == "float32"
    assert named("litert").load(path, 1).precision == "float32"


def test_file_that_a_runtime_does_not_take(tmp_path: Path, made: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes((made / "float32.tflite").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"broken\.tflite must be [^:]+: export"):
        named("openvino").load(broken, 1)


def test_changed_answers_count_beyond_rounding() -> None:
    first = np.array([[0, 10, 9.9], [0, 10, 5], [10, 0, 0], [0, 0, 10]], np.float32)
    own = np.array([[0, 10, 10.1], [0, 4, 5], [9, 0, 0], [0, 0, 10]], np.float32)
    found = compared(own, first, np.array([1, 1, 0, 2]))
    assert (found.images, found.same, found.changed, found.accuracy) == (4, 0.5, 0.25, 0.5)
    assert found.largest == pytest.approx(0.6)
    assert found.invalid == ("it must give LiteRT's class, and finite numbers, to 99% of the images, got 75.0% of 4",)
    assert not compared(first, first, None).invalid
    assert compared(first, first, None).accuracy is None


def test_answers_that_are_no_numbers_do_not_count() -> None:
    first = np.array([[0, 10], [10, 0]], np.float32)
    half, none = first.copy(), np.full_like(first, np.nan)
    half[0, 0] = np.nan
    found = compared(half, first, np.array([1, 0]))
    assert (found.same, found.changed, found.accuracy, found.largest) == (0.5, 0.5, 0.5, 0.0)
    # LiteRT's own.
    found = compared(none, none, None)
    assert (found.same, found.changed, found.largest) == (0.0, 1.0, 0.0) and found.invalid


def test_reference_is_on_the_first_runtime() -> None:
    base = Subject(label="a", path=Path("a"), sha256="", file_bytes=1, image_shape=(8, 8, 3))
    other = Subject(
        label="b", path=Path("b"), sha256="", file_bytes=1, image_shape=(8, 8, 3), reference=("a", "litert")
    )
    found = {one.name: one.reference for one in on_runtimes([base, other], ["litert", "openvino"])}
    first = ("a", "litert")
    assert found == {"a": None, "a on openvino": first, "b": first, "b on openvino": first}
    assert [one.reference for one in on_runtimes([base, other], ["openvino"])] == [None, ("a", "openvino")]


def test_file_of_tensorflow_1_computes_in_integers(made: Path, tmp_path: Path) -> None:
    """Its kernels are uint8, which today's converter does not write: here, the type of int8 kernels is changed."""
    from ai_edge_litert import schema_py_generated as schema

    model = parse((made / "int8.tflite").read_bytes())
    for tensor in model.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT8:
            tensor.type = schema.TensorType.UINT8
    path = tmp_path / "old.tflite"
    path.write_bytes(packed(model))
    assert {kernel.stored for kernel in kernels(path)} == {"uint8"}
    precision = vars(_Loaded)["precision"].func
    assert precision(SimpleNamespace(path=path)) == "int8"
