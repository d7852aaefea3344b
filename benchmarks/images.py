"""Random images, which cost what real ones do."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.datasets.base import ImageData, Split

SIDE, CLASSES, BATCH = 32, 10, 128


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


def image_data(images: npt.NDArray[np.uint8]) -> ImageData:
    """The images as every split of a dataset, uint8 (n, h, w, 3), in `CLASSES` classes."""
    split = Split(images=images, labels=np.arange(len(images)) % CLASSES)
    names = tuple(f"class {i}" for i in range(CLASSES))
    return ImageData(train=split, validation=split, test=split, class_names=names, digest="")


def random_overrides(model: str, data: tuple[Path, float], *, epochs: int) -> list[str]:
    """A cell of technique `baseline` from random weights on what `random_npz` gives, augmented, all epochs long."""
    path, validation_fraction = data
    return [
        *(f"model={model}", "model.weights=null", "technique=baseline"),
        *("dataset=npz", f"dataset.path={path}", f"dataset.validation_fraction={validation_fraction}"),
        *("dataset.horizontal_flip=true", "dataset.max_shift=4", f"training.batch_size={BATCH}"),
        *(f"training.epochs={epochs}", f"training.patience={epochs}"),
    ]
