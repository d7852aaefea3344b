"""Biases of 16-bit convolutions, on files that the real converter wrote."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.flatbuffer import named_operators, parse
from pipelines.quantization.narrow_biases import largest_sum, with_narrow_biases
from pipelines.techniques.base import Candidate
from pipelines.techniques.quantize import Quantize
from tests.conftest import exported, small_data

INT16X8 = Quantize(scheme="int16x8", calibration_images=20)
INT32, INT64 = 2, 4


def bias_types(flatbuffer: bytes) -> list[int]:
    model = parse(flatbuffer)
    tensors = model.subgraphs[0].tensors
    return [tensors[one.inputs[2]].type for name, one in named_operators(model) if name == "CONV_2D"]


def wide(candidate: Candidate, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The converter's own file, with its biases of 64 bits."""
    from pipelines.quantization import integers

    with monkeypatch.context() as patch:
        patch.setattr(integers, "with_narrow_biases", lambda flatbuffer: flatbuffer)
        return exported(replace(candidate, rewriting=INT16X8), path)


def with_heavy_layer(trained: Candidate) -> Candidate:
    """A filter of 576 equal weights, all 127 in int8, which reaches 576 x 127 x 2^15 > 2^31 with positive inputs."""
    layer = trained.model.get_layer("block4_conv")
    layer.set_weights([np.ones_like(layer.kernel)])
    return trained


def test_answers_stay_and_types_change(trained: Candidate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = small_data()
    before = wide(trained, tmp_path / "wide.tflite", monkeypatch)
    after = exported(replace(trained, rewriting=INT16X8), tmp_path / "narrow.tflite")
    assert bias_types(before.read_bytes()) == [INT64] * 5
    assert bias_types(after.read_bytes()) == [INT32] * 5
    logits, narrow = (ExportedModel(path).logits(data.test.images) for path in (before, after))
    assert not np.array_equal(logits, np.zeros_like(logits))
    assert np.abs(narrow - logits).max() < 1e-3 * np.ptp(logits)
    # The wide biases are gone from the file.
    assert after.stat().st_size < before.stat().st_size + 1000


def test_a_sum_that_could_overflow_stays_wide(trained: Candidate, tmp_path: Path) -> None:
    types = bias_types(exported(replace(with_heavy_layer(trained), rewriting=INT16X8), tmp_path / "m").read_bytes())
    assert types.count(INT64) == 1 and types.count(INT32) == 4


def test_float_and_int8_models_are_as_before(trained: Candidate, exported_baseline: Path, tmp_path: Path) -> None:
    int8 = exported(replace(trained, rewriting=replace(INT16X8, scheme="int8")), tmp_path / "model.tflite")
    for path in (exported_baseline, int8):
        flatbuffer = path.read_bytes()
        assert with_narrow_biases(flatbuffer) is flatbuffer


@pytest.mark.parametrize(
    ("weights", "biases", "not_negative", "expected"),
    [
        ([[1, -2]], [0], False, 3 * 2**15),
        ([[1, -2]], [5], True, 2 * 2**15 + 5),
        ([[3, -2]], [-5], True, 3 * 2**15 + 5),
        ([[-128, -128]], [0], False, 256 * 2**15),
        ([[1, 0], [0, 4]], [2**40, 0], False, 2**40 + 2**15),
    ],
)
def test_largest_sum_by_hand(weights: list, biases: list, not_negative: bool, expected: int) -> None:
    found = largest_sum(np.array(weights, np.int8), np.array(biases, np.int64), not_negative=not_negative)
    assert found == expected
