"""Names of layers, read from exported models."""

from pathlib import Path

import pytest

from pipelines.quantization.layers import _name, layers
from pipelines.techniques.base import Candidate
from tests.conftest import exported


def test_layers_of_a_network_in_order(exported_baseline: Path) -> None:
    found = layers(exported_baseline.read_bytes())
    assert [one.name for one in found] == [*(f"block{number}_conv" for number in range(1, 6)), "head_logits"]
    assert [one.place for one in found] == list(range(6))
    assert found[-1].operator == "FULLY_CONNECTED" and found[-1].weights == 10 * 128


def test_depthwise_layers_are_layers_too(separable: Candidate, tmp_path: Path) -> None:
    found = layers(exported(separable, tmp_path / "model.tflite").read_bytes())
    assert [one.operator for one in found].count("DEPTHWISE_CONV_2D") == 2
    assert len({one.name for one in found}) == len(found)


@pytest.mark.parametrize(
    ("tensor", "name"),
    [
        ("net/block1a_bn/FusedBatchNormV3;net/block1a_dwconv/depthwise", "block1a_dwconv"),
        ("net/head_logits/MatMul", "head_logits"),
        ("net/stem_conv/Conv2D1", "stem_conv"),
        ("Conv2D", "Conv2D"),
    ],
)
def test_name(tensor: str, name: str) -> None:
    assert _name(tensor) == name
