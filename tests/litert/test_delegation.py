"""Which operators LiteRT runs outside XNNPACK, on files that the real converter wrote."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.litert.delegation import delegation
from pipelines.results.cell_result import Delegation
from pipelines.techniques.base import Candidate
from pipelines.techniques.quantize import Quantize
from tests.conftest import exported

INT8 = Quantize(scheme="int8", calibration_images=20)
INT16X8 = Quantize(scheme="int16x8", calibration_images=20)
DYNAMIC = Quantize(scheme="dynamic", depthwise="int8")
FLOAT_DEPTHWISE = Quantize(scheme="dynamic")
WHOLE = Delegation(partitions=1, undelegated={})


@pytest.mark.parametrize(
    ("rewriting", "expected"),
    [
        (None, WHOLE),
        (Quantize(scheme="float16"), WHOLE),
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
    separable: Candidate, rewriting: Quantize | None, expected: Delegation, tmp_path: Path
) -> None:
    found = delegation(exported(replace(separable, rewriting=rewriting), tmp_path / "model.tflite"))
    assert found == expected
    assert list(found.undelegated) == sorted(found.undelegated)


@pytest.mark.parametrize("rewriting", [None, DYNAMIC, FLOAT_DEPTHWISE, INT16X8], ids=str)
def test_delegation_agrees_with_the_compiled_model(
    separable: Candidate, rewriting: Quantize | None, tmp_path: Path
) -> None:
    from ai_edge_litert.compiled_model import CompiledModel

    path = exported(replace(separable, rewriting=rewriting), tmp_path / "model.tflite")
    assert CompiledModel.from_file(str(path)).is_fully_accelerated() is not bool(delegation(path).undelegated)


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        delegation(tmp_path / "missing.tflite")
