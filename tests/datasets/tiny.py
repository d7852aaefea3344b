"""A dataset of three classes, whose images are identified by their pixels."""

from pathlib import Path
from typing import Any

import numpy as np


def tiny() -> dict[str, np.ndarray]:
    """Three classes; every pixel of image k is k, and the k of training and testing differ."""
    train, test = np.arange(30, dtype=np.uint8), np.arange(100, 112, dtype=np.uint8)
    return {
        "x_train": np.broadcast_to(train[:, None, None, None], (30, 4, 4, 3)).copy(),
        "y_train": train % 3,
        "x_test": np.broadcast_to(test[:, None, None, None], (12, 4, 4, 3)).copy(),
        "y_test": test % 3,
        "class_names": np.array(["bee", "cat", "dog"]),
    }


def write(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez_compressed(path, **arrays)
    return path
