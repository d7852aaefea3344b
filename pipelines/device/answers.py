"""What an exported model answers on a runtime: `python -m pipelines.device.answers REQUEST.json`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert.process import serve
from pipelines.litert.stream import MAX_DIFFERENCE, span
from pipelines.results.on_device import MAX_CHANGED
from pipelines.runtimes.base import named


@dataclass(frozen=True, kw_only=True)
class AnswersRequest:
    """A request to the child. images: an `.npy` file, uint8 (n, h, w, 3)."""

    exported_model: str
    runtime: str
    images: str


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a runtime's answers compare with those of LiteRT, on the same images.

    images: their number. real: of the test split, else random pixels. same: fraction of images with the same class, or
    for a model of one output with the same value within MAX_DIFFERENCE.
    changed: of those with another class that rounding does not explain, as LiteRT's logits of the two differ by more
    than MAX_DIFFERENCE of their range; an answer that is no finite number counts as changed. largest: difference of any
    logit, in units of the range of LiteRT's logits. accuracy: the runtime's own; None for random pixels.
    """

    images: int
    real: bool
    same: float
    changed: float
    largest: float
    accuracy: float | None

    @property
    def invalid(self) -> tuple[str, ...]:
        """Why figures of the runtime do not count."""
        if self.changed <= MAX_CHANGED:
            return ()
        return (
            f"it must give LiteRT's class, and finite numbers, to {1 - MAX_CHANGED:.0%} of the images, got "
            f"{1 - self.changed:.1%} of {self.images:,}",
        )


def answered(request: AnswersRequest) -> dict[str, Any]:
    """`logits` of the images, one by one: float32 (n, classes)."""
    model = named(request.runtime).load(Path(request.exported_model), 1)
    images = np.load(request.images, mmap_mode="r", allow_pickle=False)
    return {"logits": np.stack([model.query(image) for image in images])}


def compared(
    own: npt.NDArray[np.float32], first: npt.NDArray[np.float32], labels: npt.NDArray[np.int64] | None
) -> Agreement:
    """Logits (n, classes) of a runtime and of LiteRT. labels: (n,), of real images."""
    finite = np.isfinite(own).all(axis=1) & np.isfinite(first).all(axis=1)
    chosen, expected = own.argmax(axis=1), first.argmax(axis=1)
    same = finite & (chosen == expected)
    good_own, good_first = own[finite], first[finite]
    unit = span(good_first) if len(good_first) else 1.0
    if own.shape[1] == 1:
        # One number has no class: it is the same if rounding explains the difference.
        gap = np.abs(good_own - good_first)[:, 0] / unit
        same[finite] = gap <= MAX_DIFFERENCE
    else:
        rows = np.arange(len(good_first))
        gap = (good_first[rows, expected[finite]] - good_first[rows, chosen[finite]]) / unit
    return Agreement(
        images=len(own),
        real=labels is not None,
        same=float(same.mean()),
        changed=float(((gap > MAX_DIFFERENCE).sum() + (~finite).sum()) / len(own)),
        largest=float(np.abs(good_own - good_first).max(initial=0.0)) / unit,
        accuracy=None if labels is None else float((finite & (chosen == labels)).mean()),
    )


if __name__ == "__main__":
    serve(AnswersRequest, answered)
