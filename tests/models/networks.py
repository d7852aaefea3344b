"""Settings and calls that tests of networks share."""

from typing import Any

import numpy as np

SHARED: dict[str, Any] = {"weights": None, "input_size": None, "dropout": 0.2, "onednn": True}
SHAPE = (32, 32, 3)


def images(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype(np.float32)


def outputs(model, batch: np.ndarray) -> np.ndarray:
    return np.asarray(model(batch, training=False))
