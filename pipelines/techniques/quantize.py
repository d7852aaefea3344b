"""Post-training quantization of the exported model.

Source: Jacob et al. 2018, arXiv:1712.05877; ai.google.dev/edge/litert/conversion/tensorflow/quantization.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.quantization import clusters, integers, sensitivity, weights
from pipelines.quantization.calibration import calibrated, chosen
from pipelines.results.files import EXPLORER
from pipelines.system import checks
from pipelines.techniques.base import EffectError, FileTechnique, Rewritten
from pipelines.techniques.baseline import Baseline

if TYPE_CHECKING:
    from pipelines.datasets.base import ImageData

CALIBRATED = ("int8", "int16x8")
DEPTHWISE = ("float", "int8")
# Stored and computed types by name.
SCHEMES = {
    "dynamic": "int8 weights, float activations",
    "float16": "float16 weights",
    "int8": "integers throughout, uint8 in and out",
    "int16x8": "int16 activations, int8 weights",
}


@dataclass(frozen=True, kw_only=True)
class Quantize(FileTechnique):
    """Convert the baseline to fewer bits, without training.

    scheme: `dynamic` (int8 weights, float activations; about a quarter of the size), `float16` (half the size, next to
    no loss), `int8` (integer throughout, uint8 in and out; a quarter of the size, may cost accuracy), `int16x8` (int16
    activations, int8 weights; close to float accuracy, slow on CPUs).
    calibration_images: training images that set the ranges of `int8` and `int16x8`, at least 1; others take none.
    depthwise: of `dynamic` only, the type of depthwise kernels. LiteRT's accelerated delegate, XNNPACK, has no kernels
    for int8 weights and float activations there: `int8` makes the file smaller and each such layer leave the delegate,
    `float` (also None) keeps the network in one piece.
    sensitivity: of `int8` only, also measure what 8 bits do to each layer alone, on validation images.
    """

    NAME = "quantize"
    EFFECT = "tensors of the scheme's type; with `int8` no float32 tensor"
    parent = Baseline()

    scheme: str
    calibration_images: int = 0
    depthwise: str | None = None
    sensitivity: bool = False

    def __post_init__(self) -> None:
        checks.one_of("technique.scheme", self.scheme, SCHEMES)
        checks.integer("technique.calibration_images", self.calibration_images, minimum=int(self.scheme in CALIBRATED))
        checks.flag("technique.sensitivity", self.sensitivity)
        if self.sensitivity and self.scheme != "int8":
            raise ValueError(
                f"technique.sensitivity must be false with the scheme {self.scheme}, got true: it is of scheme=int8"
            )
        # Equal settings are equal cells.
        if self.scheme not in CALIBRATED:
            object.__setattr__(self, "calibration_images", 0)
        if self.depthwise is None:
            object.__setattr__(self, "depthwise", "float" if self.scheme == "dynamic" else None)
            return
        checks.one_of("technique.depthwise", self.depthwise, DEPTHWISE)
        if self.scheme != "dynamic":
            raise ValueError(
                f"technique.depthwise must be null with the scheme {self.scheme}, got {self.depthwise!r}: only "
                "scheme=dynamic has a choice"
            )

    @property
    def name(self) -> str:
        """`quantize_` and the scheme."""
        return f"{self.NAME}_{self.scheme}"

    @property
    def summary(self) -> str:
        """With the scheme."""
        return f"{super().summary.removesuffix('.')}: {SCHEMES[self.scheme]}."

    def rewrite(self, flatbuffer: bytes, data: ImageData, *, report: Callable[[str], None] = print) -> Rewritten:
        """Quantize by the scheme."""
        images = chosen(data.train, self.calibration_images)
        match self.scheme:
            case "dynamic":
                kept = {"DEPTHWISE_CONV_2D"} if self.depthwise != "int8" else set()
                quantized = weights.int8_weights(flatbuffer, weights.FILTERS.keys() - kept)
            case "float16":
                quantized = weights.float16_weights(flatbuffer)
            case "int8":
                ranges = calibrated(flatbuffer, images)
                quantized = integers.quantized(ranges)
            case _:
                quantized = integers.int16x8(flatbuffer, images)
        done = Rewritten(flatbuffer=clusters.with_shared_codes(quantized, clusters.kernels(flatbuffer)))
        if not self.sensitivity:
            return done
        found = sensitivity.of_8_bits(flatbuffer, ranges, data.validation, report=report)
        columns = sensitivity.table(found)
        return replace(
            done,
            tables={"sensitivity": columns},
            documents={EXPLORER: sensitivity.model_explorer(columns)},
            notes=(sensitivity.worst(found),),
        )

    def verify_file(self, exported_model: Path) -> None:
        """The exported model's tensors must be of the scheme's types."""
        from pipelines.litert.exported_model import tensor_dtypes

        found = tensor_dtypes(exported_model)
        wanted = {"dynamic": "int8", "float16": "float16", "int8": "int8", "int16x8": "int16"}[self.scheme]
        if not found[wanted]:
            raise EffectError(f"{self.name} left no {wanted} tensor in the exported model, which has {dict(found)}")
        if self.scheme == "int8":
            check_integer(self.name, found)


def check_integer(technique: str, found: Counter[str]) -> None:
    """Raise EffectError unless an exported model's tensors, counted by dtype, are integers, some of them int8."""
    if found["float32"] or not found["int8"]:
        raise EffectError(
            f"{technique} left {found['float32']} float32 tensors in the exported model, which has {dict(found)}"
        )
