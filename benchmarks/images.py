"""Random images, which cost what real ones do."""

from pathlib import Path

import numpy as np

SIDE, CLASSES = 32, 10


def random_npz(folder: Path, *, training: int, validation: int, test: int) -> tuple[Path, float]:
    """A file for `dataset=npz`, and the `dataset.validation_fraction` that holds so many images out."""
    random = np.random.default_rng(0)
    count = training + validation
    path = folder / "random.npz"
    np.savez(
        path,
        x_train=random.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8),
        y_train=np.arange(count) % CLASSES,
        x_test=random.integers(0, 256, (test, SIDE, SIDE, 3), np.uint8),
        y_test=np.arange(test) % CLASSES,
        class_names=np.array([f"class {i}" for i in range(CLASSES)]),
    )
    return path, validation / count
