"""Mixed precision after training: each layer in as few bits as a proven loss of accuracy allows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.litert import kernels
from pipelines.litert.flatbuffer import add_note, notes, packed, parse
from pipelines.quantization.calibration import calibrated, chosen
from pipelines.quantization.four_bits import ALGORITHMS, MAX_INT4
from pipelines.quantization.search import Found, Search
from pipelines.system import checks
from pipelines.techniques.base import EffectError, FileTechnique, Rewritten
from pipelines.techniques.baseline import Baseline

if TYPE_CHECKING:
    from pipelines.datasets.base import ImageData

BITS = (4, 8, "float")
OBJECTIVES = ("size", "time")
# In the exported model's metadata: the bits of each kernel, in the order of the operators, as JSON.
NOTE = "opscore.bits"
# Of all images, how many may be held out for validation before it is no advice any more.
LARGEST_SHARE = 0.7


@dataclass(frozen=True, kw_only=True)
class QuantizeMixed(FileTechnique):
    """Quantize each layer to as few bits as a proven loss of accuracy allows, without training.

    max_drop: accuracy that may be lost, in (0, 1); 0.01 is a point. bits: what layers may have; `4` for weights of
    convolutions and dense layers, `float` for layers that 8 bits hurt too much; `8` is always among them.
    objective: `size` stores weights of 4 bits in 4 bits: the smallest file, but LiteRT's accelerated delegate, XNNPACK,
    has no kernels for such convolutions. `time` stores each in a byte: as fast as 8 bits, and smaller only when
    compressed. algorithm: how the range of 4 bits is found, `minmax`, `octav`, or `auto` for what suits a layer better.
    calibration_images: training images that set the ranges of activations, at least 1.

    The search sees one half of the validation images; the other half proves the loss. The test images are not used.
    """

    NAME = "quantize_mixed"
    EFFECT = "each kernel in the bits of the plan"
    parent = Baseline()

    max_drop: float
    bits: tuple[int | str, ...]
    objective: str
    algorithm: str
    calibration_images: int

    def __post_init__(self) -> None:
        checks.fraction("technique.max_drop", self.max_drop, example=0.01, meaning="a point of accuracy")
        given = list(self.bits) if isinstance(self.bits, list | tuple) else self.bits
        if not isinstance(given, list) or 8 not in given or any(one not in BITS for one in given):
            raise ValueError(
                f"technique.bits must be a list with 8, and may hold 4 and float, got {given}: "
                "set for example 'technique.bits=[4,8,float]'"
            )
        # Equal choices are equal cells.
        object.__setattr__(self, "bits", tuple(one for one in BITS if one in given))
        checks.one_of("technique.objective", self.objective, OBJECTIVES)
        checks.one_of("technique.algorithm", self.algorithm, ("auto", *ALGORITHMS))
        checks.integer("technique.calibration_images", self.calibration_images, minimum=1)
        if 4 not in self.bits:
            object.__setattr__(self, "objective", OBJECTIVES[0])
            object.__setattr__(self, "algorithm", "auto")

    def rewrite(self, flatbuffer: bytes, data: ImageData, *, report: Callable[[str], None] = print) -> Rewritten:
        """Search and prove; the plan is noted in the file."""
        search = Search(
            original=flatbuffer,
            calibrated_model=calibrated(flatbuffer, chosen(data.train, self.calibration_images)),
            max_drop=self.max_drop,
            four_bits=4 in self.bits,
            float_layers="float" in self.bits,
            algorithms=ALGORITHMS if self.algorithm == "auto" else (self.algorithm,),
            pack=self.objective == "size",
            report=report,
        )
        found = search.run(data.validation)
        bits = [found.plan.bits(layer) for layer in found.layers]
        model = parse(found.flatbuffer)
        add_note(model, NOTE, json.dumps(bits).encode())
        proof = found.proof
        return Rewritten(
            flatbuffer=packed(model),
            metrics={
                "quantize_mixed/layers_4_bits": float(bits.count(4)),
                "quantize_mixed/layers_float": float(bits.count("float")),
                "quantize_mixed/allowed_drop": found.allowed,
                "quantize_mixed/proven": float(proof.bound <= self.max_drop),
                "quantize_mixed/drop": proof.drop,
                "quantize_mixed/drop_bound": proof.bound,
                "quantize_mixed/proof_images": float(proof.images),
            },
            tables={
                "bits": {
                    "layer": [layer.name for layer in found.layers],
                    "operator": [layer.operator for layer in found.layers],
                    "weights": [layer.weights for layer in found.layers],
                    "bits": [str(one) for one in bits],
                    "algorithm": [found.plan.fours.get(layer.place, "-") for layer in found.layers],
                }
            },
            notes=tuple(self._sentences(found, bits, data)),
        )

    def verify_file(self, exported_model: Path) -> None:
        """Each kernel must be stored in the bits that the file notes."""
        noted = notes(parse(exported_model.read_bytes())).get(NOTE)
        if noted is None:
            raise EffectError(f"{self.name} left no plan of bits in the exported model")
        plan, found = json.loads(noted), kernels.kernels(exported_model)
        if set(plan) == {"float"}:
            raise EffectError(
                f"{self.name} found no layer that may have 8 bits and keep the accuracy: allow more by "
                "technique.max_drop, or use technique=quantize_float16"
            )
        for number, (bits, kernel) in enumerate(zip(plan, found, strict=True)):
            if not _holds(kernel, bits, packed=self.objective == "size"):
                raise EffectError(
                    f"{self.name} planned {bits} bits for kernel {number + 1} of {len(plan)}, {kernel.name}, which the "
                    f"exported model has in {kernel.stored}"
                )

    def _sentences(self, found: Found, bits: list[int | str], data: ImageData) -> Iterator[str]:
        proof, images = found.proof, len(data.validation)
        if found.allowed > self.max_drop:
            yield (
                f"{images:,} validation images are too few to prove a loss of at most {_points(self.max_drop)} points: "
                f"so {_points(found.allowed)} were allowed, the least that they prove. {_more(found.needed, data)}"
            )
        fours = "in 4 bits" if self.objective == "size" else "in 4 bits (each weight in a byte)"
        counts: dict[int | str, str] = {4: fours, 8: "in 8 bits", "float": "in float32"}
        parts = [f"{bits.count(one)} {words}" for one, words in counts.items() if bits.count(one)]
        yield f"Of its {len(bits)} layers with weights, {' and '.join(parts)}."
        others = f"on {proof.images:,} validation images that the search did not see"
        if found.proven:
            yield (
                f"Against the float model that it was made from, it loses at most {_points(proof.bound)} points of "
                f"accuracy, proven {others} (95%)."
            )
        else:
            yield (
                f"Not proven: against the float model that it was made from, it loses {_points(proof.drop)} points of "
                f"accuracy {others}, and may lose {_points(proof.bound)} (95%), more than the "
                f"{_points(found.allowed)} that were allowed: allow more by technique.max_drop."
            )
        if 4 in bits and self.objective == "size":
            yield (
                "LiteRT runs convolutions with weights of 4 bits slowly: technique.objective=time makes a model as "
                "fast as with 8 bits, which is as small only when compressed."
            )


def _holds(kernel: kernels.Kernel, bits: int | str, *, packed: bool) -> bool:
    if bits == "float":
        return kernel.stored == "float32"
    if bits == 8:
        return kernel.stored == "int8"
    return kernel.stored == ("int4" if packed else "int8") and int(np.abs(kernel.values).max()) <= MAX_INT4


def _more(needed: int, data: ImageData) -> str:
    """How to get more images for the proof."""
    there = len(data.train) + len(data.validation)
    if data.own_validation:
        return f"It takes about {needed:,}: add validation images, or allow more by technique.max_drop."
    if needed < LARGEST_SHARE * there:
        return (
            f"It takes about {needed:,}, as with dataset.validation_fraction={math.ceil(100 * needed / there) / 100}."
        )
    return f"It takes about {needed:,}, of {there:,} that there are: allow more by technique.max_drop."


def _points(fraction: float) -> str:
    return f"{100 * fraction:.3g}"
