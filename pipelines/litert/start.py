"""Loading and the first call of an exported model, timed."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt


class Answering(Protocol):
    """A loaded model."""

    def query(self, image: npt.NDArray[np.uint8]) -> Any:
        """The answer to an image, uint8 (h, w, 3)."""


Model = TypeVar("Model", bound=Answering)


def start_up(load: Callable[[], Model], image: npt.NDArray[np.uint8]) -> tuple[Model, float, float]:
    """The loaded model, and milliseconds of loading it (from the page cache) and of its first call."""
    start = perf_counter_ns()
    model = load()
    loaded = perf_counter_ns()
    model.query(image)
    return model, (loaded - start) / 1e6, (perf_counter_ns() - loaded) / 1e6
