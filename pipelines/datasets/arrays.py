"""Datasets whose source gives all images as arrays in memory."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.datasets import notes
from pipelines.datasets.base import Dataset, ImageData, Split, content_digest
from pipelines.system import names
from pipelines.system.words import some

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """The content of a source, checked by `check_arrays`.

    x_*: uint8 RGB (n, h, w, 3). y_*: integers (n,), indices into class_names. Arrays of validation and testing are None
    where the source has none; test_fraction of the training images, in (0, 1), are then held out for testing. notes:
    sentences on how the source was read.
    """

    x_train: Array
    y_train: Array
    class_names: tuple[str, ...]
    x_test: Array | None = None
    y_test: Array | None = None
    x_validation: Array | None = None
    y_validation: Array | None = None
    test_fraction: float = 0.2
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, tuple[Array, Array]]:
        """Images and labels of each part that the source has: `train`, `test`, `validation`."""
        both = {
            part: (getattr(self, f"x_{part}"), getattr(self, f"y_{part}")) for part in ("train", "test", "validation")
        }
        return {part: (images, labels) for part, (images, labels) in both.items() if images is not None}


@dataclass(frozen=True, kw_only=True)
class ArrayDataset(Dataset):
    """A dataset whose source gives all images as arrays in memory."""

    @abstractmethod
    def read_arrays(self) -> Arrays:
        """All images and labels of the source, with the names of its classes. Raises like `preflight`."""

    def load(self) -> ImageData:
        """As `Dataset.load`; raises ValueError like `check_arrays`."""
        arrays = self.read_arrays()
        check_arrays(arrays)
        images = {part: x for part, (x, _) in arrays.parts.items()}
        labels = {part: y.astype(np.int64) for part, (_, y) in arrays.parts.items()}
        splits = {
            split: Split(images=images[part][index], labels=labels[part][index])
            for split, (part, index) in self.partition(labels, arrays.class_names, arrays.test_fraction).items()
        }
        dark = notes.dark(*(split.images for split in splits.values()))
        duplicates = notes.duplicates(**splits)
        return ImageData(
            **splits,
            class_names=arrays.class_names,
            digest=content_digest(tuple(splits.values()), arrays.class_names),
            own_validation="validation" in labels,
            notes=tuple(filter(None, (*arrays.notes, duplicates, dark))),
            duplicates=duplicates,
        )


def check_arrays(arrays: Arrays) -> None:
    """Raise ValueError with one sentence for the first thing that is wrong with the arrays."""
    if len(arrays.class_names) < 2:
        raise ValueError(f"class_names must name at least 2 classes, got {arrays.class_names}: add the missing names")
    names.check_classes(arrays.class_names)
    size = arrays.x_train.shape[1:3]
    for part, (images, labels) in arrays.parts.items():
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(
                f"x_{part} must be uint8 of shape (n, height, width, 3), got {images.dtype} of shape {images.shape}: "
                "scale to 0..255, cast with astype('uint8'), put the channels last and repeat grey images over 3"
            )
        if images.shape[1:3] != size:
            given, wanted = ("{}x{}".format(*one) for one in (images.shape[1:3], size))
            raise ValueError(f"x_{part} must have x_train's image size, {wanted}, got {given}: resize one of them")
        _check_labels(part, labels, len(images), arrays.class_names)


def _check_labels(part: str, labels: Array, images: int, class_names: tuple[str, ...]) -> None:
    x, y, top = f"x_{part}", f"y_{part}", len(class_names) - 1
    if labels.dtype.kind not in "iu" or labels.shape != (images,):
        raise ValueError(
            f"{y} must hold one integer for each of the {images} images of {x}, got {labels.dtype} of shape "
            f"{labels.shape}: cast with astype('int64'), and use reshape(-1), or argmax(1) if one-hot"
        )
    outside = labels[(labels < 0) | (labels > top)]
    if len(outside):
        raise ValueError(
            f"{y} must be in 0..{top}, indices into class_names, got {outside[0]}: add class names, or leave such "
            f"images out with keep = (0 <= {y}) & ({y} <= {top}); {x}, {y} = {x}[keep], {y}[keep]"
        )
    if absent := [class_names[number] for number in np.setdiff1d(np.arange(top + 1), labels)]:
        raise ValueError(
            f"{y} must hold every class, got no image of {some(absent)}: add some, or remove the class from "
            "class_names and renumber the labels"
        )
