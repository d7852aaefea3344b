"""Kernels as an exported model stores them, against the network that it was exported from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.litert.flatbuffer import packed, parse
from pipelines.litert.kernels import kernels, sparsity
from pipelines.techniques.base import Candidate
from pipelines.techniques.quantize import Quantize
from tests.conftest import exported


@pytest.mark.slow
def test_float_kernels_equal_those_of_the_network(trained: Candidate, exported_baseline: Path) -> None:
    found = kernels(exported_baseline)
    assert [kernel.operator for kernel in found] == ["CONV_2D"] * 5 + ["FULLY_CONNECTED"]
    head = trained.model.get_layer("head_logits").kernel.numpy()
    assert np.array_equal(found[-1].values, head.T)
    # Batch normalization is multiplied into each filter.
    convolution, norm = trained.model.get_layer("block1_conv"), trained.model.get_layer("block1_bn")
    scale = norm.gamma / np.sqrt(norm.moving_variance + norm.epsilon)
    assert np.allclose(found[0].values, np.moveaxis(convolution.kernel * scale, -1, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("rewriting", "dtype"),
    [
        (Quantize(scheme="float16"), "float16"),
        (Quantize(scheme="dynamic"), "int8"),
        (Quantize(scheme="int8", calibration_images=20), "int8"),
    ],
    ids=str,
)
def test_zeros_hold_in_every_format(trained: Candidate, rewriting: Quantize, dtype: str, tmp_path: Path) -> None:
    layer = trained.model.get_layer("block3_conv")
    kernel = layer.kernel.numpy()
    kernel[:, :, ::2] = 0
    layer.set_weights([kernel])
    exported_model = exported(replace(trained, rewriting=rewriting), tmp_path / "model.tflite")
    found = kernels(exported_model)[2]
    assert found.values.dtype == dtype
    assert not found.values[..., ::2].any()
    zeros = sum(int((one.values == 0).sum()) for one in kernels(exported_model))
    assert zeros >= kernel.size / 2
    assert sparsity(exported_model) == pytest.approx(zeros / sum(one.values.size for one in kernels(exported_model)))


def test_names_may_be_stripped(exported_baseline: Path, tmp_path: Path) -> None:
    model = parse(exported_baseline.read_bytes())
    for tensor in model.subgraphs[0].tensors:
        tensor.name = None
    (tmp_path / "stripped.tflite").write_bytes(packed(model))
    stripped, known = kernels(tmp_path / "stripped.tflite"), kernels(exported_baseline)
    assert [(one.name, one.operator, one.values.shape) for one in stripped] == [
        ("", one.operator, one.values.shape) for one in known
    ]
