"""Files that are quantized from the exported float model, against those of TensorFlow Lite's converter."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.conversion import program
from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.flatbuffer import notes, packed, parse
from pipelines.litert.kernels import kernels
from pipelines.quantization.calibration import calibrated, chosen
from pipelines.quantization.weights import float16_weights, int8_weights, store, stored
from pipelines.techniques.base import Candidate
from pipelines.techniques.quantize import Quantize
from tests.conftest import exported, small_data

IMAGES = 20
DYNAMIC = Quantize(scheme="dynamic", depthwise="int8")
FLOAT_DEPTHWISE = Quantize(scheme="dynamic")


def by_the_converter(candidate: Candidate, configure: Callable[[Any, Any], None], path: Path) -> Path:
    """The file that TensorFlow Lite's converter makes of the network."""
    import tensorflow as tf

    model = candidate.model
    function = tf.function(model).get_concrete_function(tf.TensorSpec([1, *model.input_shape[1:]], tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.experimental_lower_to_saved_model = False
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    configure(converter, tf)
    path.write_bytes(converter.convert())
    return path


def as_float16(converter: Any, tf: Any) -> None:
    converter.target_spec.supported_types = [tf.float16]


def representative(converter: Any) -> None:
    images = chosen(small_data()[0].train, IMAGES)
    converter.representative_dataset = lambda: ([image[None].astype(np.float32)] for image in images)


def as_int8(converter: Any, tf: Any) -> None:
    representative(converter)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8


def as_int16x8(converter: Any, tf: Any) -> None:
    representative(converter)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]


def as_dynamic(converter: Any, tf: Any) -> None:
    """The converter's default."""


@pytest.fixture(params=["trained", "separable"])
def network(request: pytest.FixtureRequest) -> Candidate:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    ("technique", "configure"),
    [(DYNAMIC, as_dynamic), (Quantize(scheme="float16"), as_float16)],
    ids=["dynamic", "float16"],
)
def test_weights_are_quantized_as_the_converter_does(
    technique: Quantize, configure: Callable[[Any, Any], None], network: Candidate, tmp_path: Path
) -> None:
    ours = exported(replace(network, rewriting=technique), tmp_path / "ours.tflite")
    theirs = by_the_converter(network, configure, tmp_path / "theirs.tflite")
    for own, other in zip(kernels(ours), kernels(theirs), strict=True):
        assert own.operator == other.operator and own.values.dtype == other.values.dtype
        assert (own.values == other.values).all()
    images = small_data()[0].test.images
    assert np.array_equal(ExportedModel(ours).logits(images), ExportedModel(theirs).logits(images))
    assert abs(ours.stat().st_size - theirs.stat().st_size) < 5_000


def test_dynamic_files_hold_the_converters_program(network: Candidate, tmp_path: Path) -> None:
    ours = exported(replace(network, rewriting=DYNAMIC), tmp_path / "ours.tflite")
    assert program(ours) == program(by_the_converter(network, as_dynamic, tmp_path / "theirs.tflite"))


@pytest.mark.parametrize(("scheme", "configure"), [("int8", as_int8), ("int16x8", as_int16x8)])
def test_integers_are_the_converters_up_to_rounding(
    scheme: str, configure: Callable[[Any, Any], None], network: Candidate, tmp_path: Path
) -> None:
    technique = Quantize(scheme=scheme, calibration_images=IMAGES)
    ours = exported(replace(network, rewriting=technique), tmp_path / "ours.tflite")
    theirs = by_the_converter(network, configure, tmp_path / "theirs.tflite")
    for own, other in zip(kernels(ours), kernels(theirs), strict=True):
        assert own.values.dtype == other.values.dtype and (own.values == other.values).all()
    images = small_data()[0].test.images
    logits, expected = (ExportedModel(path).logits(images) for path in (ours, theirs))
    # Ranges that XNNPACK computes differ in the last bits, which moves a few activations by a step.
    assert np.abs(logits - expected).max() <= 0.03 * np.ptp(expected)


def test_ranges_are_those_of_the_images(exported_baseline: Path) -> None:
    data, _ = small_data()
    images = chosen(data.train, IMAGES)
    graph = parse(calibrated(exported_baseline.read_bytes(), images)).subgraphs[0]
    source, target = (graph.tensors[places[0]].quantization for places in (graph.inputs, graph.outputs))
    assert (source.min[0], source.max[0]) == (0, 255)
    logits = ExportedModel(exported_baseline).logits(images)
    assert np.allclose((target.min[0], target.max[0]), (logits.min(), logits.max()), atol=1e-4)


@pytest.mark.parametrize("count", [10, 50, 1000])
def test_calibration_images_are_of_every_class(count: int) -> None:
    train = small_data()[0].train
    images = chosen(train, count)
    assert len(images) == min(count, len(train))
    labels = {image.tobytes(): label for image, label in zip(train.images, train.labels, strict=True)}
    found = np.bincount([labels[image.tobytes()] for image in images], minlength=10)
    shares = np.bincount(train.labels, minlength=10) / len(train) * len(images)
    assert (abs(found - shares) <= 1).all()
    assert np.array_equal(chosen(train, count), images)


def test_float16_files_allow_arithmetic_in_it(exported_baseline: Path) -> None:
    found = notes(parse(float16_weights(exported_baseline.read_bytes())))
    assert found["reduced_precision_support"] == b"fp16accfp32"


def test_numbers_that_float16_does_not_hold_stay(exported_baseline: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = parse(exported_baseline.read_bytes())
    place, values = next(
        (place, values)
        for place, tensor in enumerate(model.subgraphs[0].tensors)
        if (values := stored(model, tensor)) is not None and values.size > 8
    )
    large = values.copy()
    large.flat[0] = 1e7
    store(model, model.subgraphs[0].tensors[place], large, schema.TensorType.FLOAT32)
    half = parse(float16_weights(packed(model)))
    kept = stored(half, half.subgraphs[0].tensors[place])
    assert kept is not None and np.array_equal(kept, large)
    assert sum(tensor.type == schema.TensorType.FLOAT16 for tensor in half.subgraphs[0].tensors) >= 3


def test_a_filter_of_zeros_stays_zeros(trained: Candidate, tmp_path: Path) -> None:
    layer = trained.model.get_layer("block3_conv")
    kernel = layer.kernel.numpy()
    kernel[..., 0] = 0
    layer.set_weights([kernel])
    found = kernels(exported(replace(trained, rewriting=DYNAMIC), tmp_path / "model.tflite"))[2]
    assert found.values.dtype == np.int8 and not found.values[0].any() and found.values[1:].any()


def test_kernels_of_other_operators_stay(separable: Candidate, tmp_path: Path) -> None:
    flatbuffer = exported(separable, tmp_path / "float.tflite").read_bytes()
    (tmp_path / "mixed.tflite").write_bytes(int8_weights(flatbuffer, {"CONV_2D"}))
    plain, mixed = kernels(tmp_path / "float.tflite"), kernels(tmp_path / "mixed.tflite")
    for own, floats in zip(mixed, plain, strict=True):
        assert own.values.dtype == ("int8" if own.operator == "CONV_2D" else "float32")
        assert own.operator == "CONV_2D" or (own.values == floats.values).all()


def test_float_depthwise_kernels_keep_the_answers(separable: Candidate, tmp_path: Path) -> None:
    data, _ = small_data()
    expected, mixed, quantized = (
        ExportedModel(exported(replace(separable, rewriting=one), tmp_path / f"{number}.tflite"))
        for number, one in enumerate((None, FLOAT_DEPTHWISE, DYNAMIC))
    )
    logits = expected.logits(data.test.images)
    near, nearly = (np.abs(one.logits(data.test.images) - logits).mean() for one in (mixed, quantized))
    assert near < 0.02 * np.ptp(logits) and near < 1.05 * nearly
    assert mixed.labels == data.class_names
