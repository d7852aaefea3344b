"""What quantizing does to a model's answers, by LiteRT."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipelines.datasets.base import Split
from pipelines.results import statistics
from pipelines.system import machine

Logits = npt.NDArray[np.float32]


def logits(flatbuffer: bytes, images: npt.NDArray[np.uint8]) -> Logits:
    """The logits of images, uint8 (n, h, w, 3), one by one: float32 (n, classes)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flatbuffer, num_threads=machine.cores())
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for image in images:
        interpreter.set_tensor(source["index"], image[np.newaxis].astype(source["dtype"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(target["index"])[0])
    scale, zero_point = target["quantization"]
    values = np.array(found, np.float32)
    return (values - np.float32(zero_point)) * np.float32(scale) if scale else values


def snr_db(expected: Logits, found: Logits) -> float:
    """The power of the expected logits over that of the differences, in decibels; infinite where there are none."""
    noise = float(np.square(found - expected, dtype=np.float64).sum())
    return 10 * math.log10(float(np.square(expected, dtype=np.float64).sum()) / noise) if noise else math.inf


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What a quantized model loses against the float one on the same images.

    drop: accuracy lost, a fraction in [-1, 1]. changed: fraction of the images that exactly one of the two gets right.
    bound: one-sided 95% bound of the drop. images: their number.
    """

    drop: float
    changed: float
    bound: float
    images: int


@dataclass(frozen=True)
class Judge:
    """Images by which a quantized model is compared with the float one, `original`."""

    original: bytes
    split: Split

    @cached_property
    def expected(self) -> Logits:
        """The float model's logits."""
        return logits(self.original, self.split.images)

    @cached_property
    def right(self) -> npt.NDArray[np.bool_]:
        """Where the float model is right, (n,)."""
        right: npt.NDArray[np.bool_] = self.expected.argmax(axis=1) == self.split.labels
        return right

    def loss(self, flatbuffer: bytes) -> Loss:
        """What a quantized model loses. Source of the bound: `statistics.paired_difference`."""
        right, images = logits(flatbuffer, self.split.images).argmax(axis=1) == self.split.labels, len(self.split)
        lost, won = int((self.right & ~right).sum()), int((right & ~self.right).sum())
        return Loss(
            drop=(lost - won) / images,
            changed=(lost + won) / images,
            bound=statistics.paired_difference(lost - won, lost + won, images, quantile=statistics.ONE_SIDED)[1],
            images=images,
        )
