"""Kernels of 4 bits in files that LiteRT runs."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.kernels import kernels
from pipelines.quantization.calibration import calibrated, chosen
from pipelines.quantization.four_bits import ALGORITHMS, MAX_INT4, nibbles, quantized_kernel, with_four_bits
from pipelines.quantization.integers import quantized
from pipelines.quantization.layers import layers
from pipelines.techniques.base import Candidate
from tests.conftest import exported, small_data

IMAGES = 50


@pytest.fixture(scope="module")
def eight(exported_baseline: Path) -> bytes:
    return quantized(calibrated(exported_baseline.read_bytes(), chosen(small_data()[0].train, IMAGES)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stored_codes_are_those_of_the_float_kernels(
    algorithm: str, eight: bytes, exported_baseline: Path, tmp_path: Path
) -> None:
    original, path = exported_baseline.read_bytes(), tmp_path / "model.tflite"
    path.write_bytes(with_four_bits(eight, original, {1: algorithm, 5: algorithm}))
    (tmp_path / "eight.tflite").write_bytes(eight)
    floats, before, after = kernels(exported_baseline), kernels(tmp_path / "eight.tflite"), kernels(path)
    assert [one.stored for one in after] == ["int8", "int4", "int8", "int8", "int8", "int4"]
    for place, kernel in enumerate(after):
        if place in (1, 5):
            _, codes = quantized_kernel(floats[place].values, 0, algorithm)
            assert (kernel.values == codes).all() and abs(kernel.values).max() == MAX_INT4
        else:
            assert (kernel.values == before[place].values).all()
    # Half a byte for each of these weights, and scales as before.
    saved = (floats[1].values.size + floats[5].values.size) // 2
    assert len(eight) - 2_000 < path.stat().st_size + saved < len(eight) + 2_000


def test_packed_weights_answer_as_unpacked_ones(eight: bytes, exported_baseline: Path, tmp_path: Path) -> None:
    original, images = exported_baseline.read_bytes(), small_data()[0].test.images
    algorithms = {layer.place: "minmax" for layer in layers(original)}
    answers = []
    for pack in (True, False):
        path = tmp_path / f"{pack}.tflite"
        path.write_bytes(with_four_bits(eight, original, algorithms, pack=pack))
        answers.append(ExportedModel(path).logits(images))
        assert {one.stored for one in kernels(path)} == ({"int4"} if pack else {"int8"})
    packed, unpacked = answers
    # Other kernels of LiteRT's compute them, which round a few activations differently.
    assert np.abs(packed - unpacked).max() <= 0.03 * np.ptp(unpacked)
    assert (packed.argmax(axis=1) == unpacked.argmax(axis=1)).mean() >= 0.98


def test_four_bits_keep_most_answers(eight: bytes, exported_baseline: Path, tmp_path: Path) -> None:
    images, path = small_data()[0].test.images, tmp_path / "model.tflite"
    path.write_bytes(with_four_bits(eight, exported_baseline.read_bytes(), {3: "minmax", 4: "minmax"}))
    expected, found = (ExportedModel(one).logits(images).argmax(axis=1) for one in (exported_baseline, path))
    assert (expected == found).mean() > 0.9


@pytest.mark.parametrize("count", [1, 2, 7, 16])
def test_nibbles_are_read_back(count: int) -> None:
    from pipelines.litert.kernels import _unpacked

    codes = np.random.default_rng(count).integers(-8, 8, count)
    data = nibbles(codes)
    assert len(data) == (count + 1) // 2
    assert (_unpacked(data, count) == codes).all()


def test_octav_clips_where_few_weights_are_large() -> None:
    random = np.random.default_rng(0)
    heavy = random.laplace(size=(4, 3, 3, 64)).astype(np.float32)
    errors = {}
    for algorithm in ALGORITHMS:
        scales, codes = quantized_kernel(heavy, 0, algorithm)
        errors[algorithm] = float(np.square(codes * scales.reshape(-1, 1, 1, 1) - heavy).mean())
    assert errors["octav"] < 0.8 * errors["minmax"]
    # The mean of a filter that is constant is where its codes reach their largest.
    scales, codes = quantized_kernel(np.full((1, 1, 1, 9), 0.5, np.float32), 0, "octav")
    assert np.allclose(codes * scales, 0.5, rtol=0.01)


def test_a_filter_of_zeros_has_a_scale() -> None:
    for algorithm in ALGORITHMS:
        scales, codes = quantized_kernel(np.zeros((2, 1, 1, 8), np.float32), 0, algorithm)
        assert (scales > 0).all() and not codes.any()


def test_a_bias_that_dwarfs_its_kernel_fits_into_32_bits(trained: Candidate, tmp_path: Path) -> None:
    head = trained.model.get_layer("head_logits")
    kernel, bias = head.get_weights()
    kernel[:, 0], bias[0] = 1e-9, 100.0
    head.set_weights([kernel, bias])
    path = exported(trained, tmp_path / "float.tflite")
    eight = quantized(calibrated(path.read_bytes(), chosen(small_data()[0].train, IMAGES)))
    (tmp_path / "four.tflite").write_bytes(with_four_bits(eight, path.read_bytes(), {5: "minmax"}))
    found = ExportedModel(tmp_path / "four.tflite").logits(small_data()[0].test.images)
    assert np.allclose(found[:, 0], 100.0, rtol=0.02)
