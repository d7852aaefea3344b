"""What quantizing does to a model's answers, by LiteRT."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.datasets.base import Split
from pipelines.results import statistics
from pipelines.results.files import MODEL
from pipelines.system import machine

Logits = npt.NDArray[np.float32]


def logits(flatbuffer: bytes, images: npt.NDArray[np.uint8]) -> Logits:
    """The logits of images, uint8 (n, h, w, 3), one by one: float32 (n, classes)."""
    # Techniques import this module, and a command that only composes a cell needs no LiteRT.
    from pipelines.litert.exported_model import ExportedModel

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        path.write_bytes(flatbuffer)
        return ExportedModel(path, threads=machine.cores()).logits(images)


def snr_db(expected: Logits, found: Logits) -> float:
    """The power of the expected logits over that of the differences, in decibels; infinite where there are none."""
    signal, noise = (float(np.square(one, dtype=np.float64).sum()) for one in (expected, found - expected))
    if not noise:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


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
        """What a quantized model loses, with the bound of `statistics.largest_drop`."""
        right, images = logits(flatbuffer, self.split.images).argmax(axis=1) == self.split.labels, len(self.split)
        lost, won = int((self.right & ~right).sum()), int((right & ~self.right).sum())
        return Loss(
            drop=(lost - won) / images,
            changed=(lost + won) / images,
            bound=statistics.largest_drop(lost, won, images),
            images=images,
        )
