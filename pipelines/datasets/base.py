"""The interface of every dataset: seeded, stratified train, validation and test splits."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from pipelines.datasets.splitting import (
    VALIDATION_FRACTION,
    Indices,
    Labels,
    check_counts,
    check_limit,
    shared_limit,
    stratified_split,
    stratified_subset,
)
from pipelines.system import checks, mapped, names

Images = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images, uint8 RGB of shape (n, h, w, 3), and their labels, int64 of shape (n,).

    images: in memory, or mapped from a file (`pipelines/system/mapped.py`) that may be larger than memory.
    known_digest: the value of `digest` if it has been computed before.
    """

    images: Images
    labels: Labels
    known_digest: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def digest(self) -> str:
        """SHA-256 of pixels and labels, in hexadecimal."""
        return self.known_digest or content_digest((self,), ())


@dataclass(frozen=True, kw_only=True)
class ImageData:
    """The three splits of a dataset.

    digest: SHA-256 of all splits and the class names, in hexadecimal. notes: sentences on how the images were read,
    printed before training. duplicates: the one of them on test images that are among the others, or empty.
    own_validation: whether the source has validation images, of which no fraction decides.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    digest: str
    notes: tuple[str, ...] = ()
    duplicates: str = ""
    own_validation: bool = False

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of one image, as stored: models resize inside their graph."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """A source of images, with its splits and its augmentation.

    name: used in tables, in MLflow and for the registered model; `default_name` if not given.
    validation_fraction: fraction of the training images held out for validation, in (0, 1).
    split_seed: seed of every choice of images; runs with equal seeds have equal splits.
    limit_train: the most images for training and validation together, drawn before the validation split; None for all.
    limit_test: the most images for testing; None for all.
    horizontal_flip, max_shift: augmentation that preserves labels: mirroring, and shifts in pixels.
    """

    # The name does not change a result.
    name: str = field(default="", metadata={"fingerprint": False})
    validation_fraction: float = 0.1
    split_seed: int = 0
    limit_train: int | None = None
    limit_test: int | None = None
    horizontal_flip: bool = False
    max_shift: int = 0

    def __post_init__(self) -> None:
        """Check the fields that all datasets share."""
        checks.fraction("dataset.validation_fraction", self.validation_fraction)
        checks.integer("dataset.split_seed", self.split_seed, minimum=0)
        for name, limit in (("limit_train", self.limit_train), ("limit_test", self.limit_test)):
            if limit is not None:
                checks.integer(f"dataset.{name}", limit, minimum=1)
        checks.flag("dataset.horizontal_flip", self.horizontal_flip)
        checks.integer("dataset.max_shift", self.max_shift, minimum=0)
        object.__setattr__(self, "name", names.resolved("dataset.name", self.name, self.default_name))
        names.check_dataset("dataset.name", self.name)

    def check_shift(self, side: int) -> None:
        """Raise ValueError where a shift can move an image of `side` pixels out of its frame."""
        if self.max_shift >= side:
            raise ValueError(
                f"dataset.max_shift must be less than the {side} pixels of an image's side, got {self.max_shift}: set "
                f"for example dataset.max_shift={max(1, side // 8)}"
            )

    @property
    @abstractmethod
    def default_name(self) -> str:
        """The name of a dataset without `name`, for example `cifar10`. `__post_init__` reads it."""

    @abstractmethod
    def preflight(self) -> None:
        """Raise FileNotFoundError, ConnectionError or ValueError where `load` would fail; no TensorFlow."""

    @abstractmethod
    def load(self) -> ImageData:
        """Read, check, limit and split the images.

        Each split is in a seeded random order, so its first k images are a fair sample of it. Raises like `preflight`,
        and ValueError for invalid images or labels and for limits that cannot be met.
        """

    def partition(
        self, labels: Mapping[str, Labels], class_names: Sequence[str], test_fraction: float
    ) -> dict[str, tuple[str, Indices]]:
        """The part of the source and the positions in it, in random order, of `train`, `validation` and `test`.

        labels: int64 (n,) of each part that the source has: `train`, maybe `validation` and `test`.
        test_fraction: fraction of `train` held out for testing where there is no `test`, in (0, 1).
        Raises ValueError for classes with too few images, and for fractions and limits that cannot be met.
        """
        check_counts(labels, class_names)
        seed, draw = self.split_seed, partial(stratified_subset, seed=self.split_seed)
        if "test" in labels:
            test_part, train, test = "test", np.arange(len(labels["train"])), np.arange(len(labels["test"]))
        else:
            test_part = "train"
            # Of each class, an image must be left for validation too.
            leave = 1 if "validation" in labels else 2
            train, test = stratified_split(
                labels["train"], test_fraction, seed=seed, field="dataset.test_fraction", leave=leave
            )
        y = labels["train"][train]
        if "validation" in labels:
            part, limits = "validation", shared_limit(self.limit_train, y, labels["validation"])
            train = train[draw(y, limits[0], field="dataset.limit_train")]
            validation = draw(labels["validation"], limits[1], field="dataset.limit_train")
        else:
            part, fraction = "train", self.validation_fraction
            check_limit(y, self.limit_train, fraction)
            kept = train[draw(y, self.limit_train, field="dataset.limit_train")]
            y = labels["train"][kept]
            rest, held_out = stratified_split(y, fraction, seed=seed, field=VALIDATION_FRACTION)
            train, validation = kept[rest], kept[held_out]
        test = test[draw(labels[test_part][test], self.limit_test, field="dataset.limit_test")]
        return {"train": ("train", train), "validation": (part, validation), "test": (test_part, test)}


@dataclass(frozen=True, kw_only=True)
class SplitDataset(Dataset):
    """A dataset whose source may have no test images.

    test_fraction: fraction held out for testing, in (0, 1); no effect where the source has test images.
    """

    # The digest covers the choice of test images.
    test_fraction: float = field(default=0.2, metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.fraction("dataset.test_fraction", self.test_fraction)


def content_digest(splits: Sequence[Split], class_names: Sequence[str]) -> str:
    """SHA-256, in hexadecimal, over shape, dtype and bytes of every array, in order, and the class names."""
    digest = hashlib.sha256(json.dumps(list(class_names)).encode())
    for split in splits:
        for array in (split.images, split.labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            for block in mapped.blocks(array):
                digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
