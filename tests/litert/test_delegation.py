"""Which operators LiteRT runs outside XNNPACK, on files that the real converter wrote."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.litert.delegation import delegation
from pipelines.litert.float_kernels import with_float_kernels
from pipelines.litert.kernels import kernels
from pipelines.results.records import Delegation
from pipelines.techniques.base import Candidate, Conversion
from tests.conftest import exported, small_data

INT8 = Conversion(quantization="int8", calibration_images=20)
INT16X8 = Conversion(quantization="int16x8", calibration_images=20)
DYNAMIC = Conversion(quantization="dynamic")
FLOAT_DEPTHWISE = Conversion(quantization="dynamic", float_depthwise=True)
WHOLE = Delegation(partitions=1, undelegated={})


@pytest.fixture(scope="module")
def separable() -> Candidate:
    """A network with two depthwise convolutions, large enough for the converter to quantize them."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    data, _ = small_data()
    layers = tf_keras.layers
    convolutions = [
        [layers.DepthwiseConv2D(3, padding="same"), layers.Conv2D(128, 1, activation="relu")] for _ in range(2)
    ]
    return Candidate(
        model=tf_keras.Sequential(
            [
                layers.Input(data.image_shape),
                layers.Rescaling(1 / 255),
                layers.Conv2D(128, 3, activation="relu"),
                *(layer for pair in convolutions for layer in pair),
                layers.GlobalAveragePooling2D(),
                layers.Dense(10),
            ]
        )
    )


@pytest.mark.parametrize(
    ("conversion", "expected"),
    [
        (Conversion(), WHOLE),
        (Conversion(quantization="float16"), WHOLE),
        (DYNAMIC, Delegation(partitions=3, undelegated={"DEPTHWISE_CONV_2D": 2})),
        (FLOAT_DEPTHWISE, WHOLE),
        # The conversions of its uint8 input and output are outside, and do not count.
        (INT8, WHOLE),
        (
            INT16X8,
            Delegation(
                partitions=0,
                undelegated={"CONV_2D": 3, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 1, "MEAN": 1},
                int16=True,
            ),
        ),
    ],
    ids=str,
)
def test_delegation_of_each_scheme(
    separable: Candidate, conversion: Conversion, expected: Delegation, tmp_path: Path
) -> None:
    found = delegation(exported(replace(separable, conversion=conversion), tmp_path / "model.tflite"))
    assert found == expected
    assert list(found.undelegated) == sorted(found.undelegated)


@pytest.mark.parametrize("conversion", [Conversion(), DYNAMIC, FLOAT_DEPTHWISE, INT16X8], ids=str)
def test_delegation_agrees_with_the_compiled_model(
    separable: Candidate, conversion: Conversion, tmp_path: Path
) -> None:
    from ai_edge_litert.compiled_model import CompiledModel

    path = exported(replace(separable, conversion=conversion), tmp_path / "model.tflite")
    assert CompiledModel.from_file(str(path)).is_fully_accelerated() is not bool(delegation(path).undelegated)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        delegation(tmp_path / "missing.tflite")


def test_float_kernels_are_those_of_the_float_model(separable: Candidate, tmp_path: Path) -> None:
    paths = {
        name: exported(replace(separable, conversion=conversion), tmp_path / f"{name}.tflite")
        for name, conversion in (("float", Conversion()), ("int8", DYNAMIC), ("mixed", FLOAT_DEPTHWISE))
    }
    plain, quantized, mixed = (kernels(path) for path in paths.values())
    for own, floats, integers in zip(mixed, plain, quantized, strict=True):
        expected = floats if own.operator == "DEPTHWISE_CONV_2D" else integers
        assert own.operator == floats.operator and own.values.dtype == expected.values.dtype
        assert (own.values == expected.values).all()
    assert [one.values.dtype for one in mixed if one.operator == "DEPTHWISE_CONV_2D"] == ["float32"] * 2
    # Two kernels of 3 x 3 x 128 floats instead of bytes; the float file's other kernels do not come along.
    added = paths["mixed"].stat().st_size - paths["int8"].stat().st_size
    assert 0 < added < 2 * 3 * 2 * 9 * 128


def test_float_kernels_keep_the_answers(separable: Candidate, tmp_path: Path) -> None:
    import numpy as np

    from pipelines.litert.exported_model import ExportedModel

    data, _ = small_data()
    expected, mixed, quantized = (
        ExportedModel(exported(replace(separable, conversion=one), tmp_path / f"{number}.tflite"))
        for number, one in enumerate((Conversion(), FLOAT_DEPTHWISE, DYNAMIC))
    )
    logits = expected.logits(data.test.images)
    near, nearly = (np.abs(one.logits(data.test.images) - logits).mean() for one in (mixed, quantized))
    assert near < 0.02 * np.ptp(logits) and near < 1.05 * nearly
    assert mixed.labels == data.class_names


def test_without_depthwise_convolutions_nothing_changes(trained: Candidate, tmp_path: Path) -> None:
    as_before, now = (
        exported(replace(trained, conversion=one), tmp_path / f"{number}.tflite").read_bytes()
        for number, one in enumerate((DYNAMIC, FLOAT_DEPTHWISE))
    )
    assert as_before == now

    def never() -> bytes:
        raise AssertionError

    assert with_float_kernels(as_before, never, operator="DEPTHWISE_CONV_2D") is as_before


def test_float_kernels_of_another_network_are_refused(
    separable: Candidate, exported_baseline: Path, tmp_path: Path
) -> None:
    quantized = exported(replace(separable, conversion=DYNAMIC), tmp_path / "model.tflite").read_bytes()
    with pytest.raises(ValueError, match="must have the operators of the quantized one"):
        with_float_kernels(quantized, exported_baseline.read_bytes, operator="DEPTHWISE_CONV_2D")
