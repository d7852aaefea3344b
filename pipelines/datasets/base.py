"""What every dataset gives: seeded, stratified train, validation and test splits in memory."""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.datasets import notes
from pipelines.system import checks, mapped, names

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images, uint8 RGB of shape (n, h, w, 3), and their labels, int64 of shape (n,).

    images: in memory, or mapped from a file (`pipelines/system/mapped.py`) and then larger than memory, maybe.
    known_digest: what `digest` gives, where that is known already.
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

    digest: SHA-256 of everything in the splits, in hexadecimal. notes: sentences on how the images were read, which a
    cell prints before it trains.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    digest: str
    notes: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of one image, as stored: models resize inside their graph."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """What a dataset's source holds, before any check: `validate` says what must be true of it.

    x_validation, y_validation: None where the source has none. notes: sentences on how the source was read.
    """

    x_train: npt.NDArray[Any]
    y_train: npt.NDArray[Any]
    x_test: npt.NDArray[Any]
    y_test: npt.NDArray[Any]
    class_names: tuple[str, ...]
    x_validation: npt.NDArray[Any] | None = None
    y_validation: npt.NDArray[Any] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Dataset(ABC):
    """Images in memory, with the splits and the augmentation that belong to them.

    name: what its cells, its registered model and its tables are called; not given, it is `default_name`.
    validation_fraction: part of the training images held out for validation, in (0, 1).
    split_seed: seed of every choice of images; two runs with the same seed have the same splits.
    limit_train: images for training and validation together, drawn before the validation split; None for all.
    limit_test: images for testing; None for all.
    horizontal_flip, max_shift: augmentation that keeps the label true: mirroring, and shifts in pixels.
    """

    # How a thing is called changes no result.
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
        """Raise ValueError where images of `side` pixels are shifted out of sight."""
        if self.max_shift >= side:
            raise ValueError(
                f"dataset.max_shift must be less than the {side} pixels of an image's side, got {self.max_shift}: set "
                f"for example dataset.max_shift={max(1, side // 8)}"
            )

    @property
    @abstractmethod
    def default_name(self) -> str:
        """What it is called where `name` is not given, for example `cifar10`. Asked for when its fields are checked."""

    @abstractmethod
    def preflight(self) -> None:
        """Raise FileNotFoundError, ConnectionError or ValueError where `load` would fail; no TensorFlow."""

    @abstractmethod
    def load(self) -> ImageData:
        """Read, check, limit and split the images.

        Each split is in a seeded random order, so its first k images are a fair sample of it. Raises like `preflight`,
        and ValueError for images or labels that break a rule and for limits that cannot be met.
        """


@dataclass(frozen=True, kw_only=True)
class ArrayDataset(Dataset):
    """A dataset whose source gives all images as arrays in memory."""

    @abstractmethod
    def _read(self) -> Arrays:
        """The source as it is; raises like `preflight`."""

    def load(self) -> ImageData:
        """As `Dataset.load`; the arrays must keep the rules of `validate`."""
        arrays, seed = self._read(), self.split_seed
        validate(arrays)
        y_train, y_test = arrays.y_train.astype(np.int64), arrays.y_test.astype(np.int64)
        train, validation = self._trained_on(arrays, y_train)
        tested = stratified_subset(y_test, self.limit_test, seed=seed, field="dataset.limit_test")
        test = Split(images=arrays.x_test[tested], labels=y_test[tested])
        digest = content_digest((train, validation, test), arrays.class_names)
        return ImageData(
            train=train,
            validation=validation,
            test=test,
            class_names=arrays.class_names,
            digest=digest,
            notes=tuple(note for note in (*arrays.notes, notes.duplicates(train, test)) if note),
        )

    def _trained_on(self, arrays: Arrays, y_train: Labels) -> tuple[Split, Split]:
        """The images for training and for validation, each in random order."""
        seed = self.split_seed
        if arrays.x_validation is None or arrays.y_validation is None:
            fraction = self.validation_fraction
            check_limit(y_train, self.limit_train, fraction)
            kept = stratified_subset(y_train, self.limit_train, seed=seed, field="dataset.limit_train")
            rest, held_out = stratified_split(y_train[kept], fraction, seed=seed, field="dataset.validation_fraction")
            return (
                Split(images=arrays.x_train[kept[rest]], labels=y_train[kept[rest]]),
                Split(images=arrays.x_train[kept[held_out]], labels=y_train[kept[held_out]]),
            )
        y_validation = arrays.y_validation.astype(np.int64)
        limits = shared_limit(self.limit_train, y_train, y_validation)
        first, second = (
            stratified_subset(labels, limit, seed=seed, field="dataset.limit_train")
            for labels, limit in zip((y_train, y_validation), limits, strict=True)
        )
        return (
            Split(images=arrays.x_train[first], labels=y_train[first]),
            Split(images=arrays.x_validation[second], labels=y_validation[second]),
        )


def content_digest(splits: Sequence[Split], class_names: Sequence[str]) -> str:
    """SHA-256, in hexadecimal, over shape, dtype and bytes of every array, in order, and the class names."""
    digest = hashlib.sha256(json.dumps(list(class_names)).encode())
    for split in splits:
        for array in (split.images, split.labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            for block in mapped.blocks(array):
                digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def check_limit(labels: Labels, limit: int | None, fraction: float) -> None:
    """Raise ValueError, with a limit that works, where `limit` labels leave a class without training or validation."""
    counts = np.unique(labels, return_counts=True)[1]
    if limit is None or not len(counts) <= limit <= len(labels) or _can_split(counts, limit, fraction):
        return
    more = (size for size in range(limit + 1, len(labels) + 1) if _can_split(counts, size, fraction))
    works = next(more, None)
    raise ValueError(
        f"dataset.limit_train must give each of {len(counts)} classes images for training and for validation, got "
        f"{limit} with dataset.validation_fraction={fraction:g}: set dataset.limit_train="
        f"{'null for all images' if works is None else works}"
    )


def _can_split(counts: Indices, size: int, fraction: float) -> bool:
    """Whether so many labels can be drawn, and a fraction of them split off, with every class in both parts."""
    held_out = round(size * fraction)
    if not len(counts) <= held_out <= size - len(counts):
        return False
    return bool(_apportion(counts, size, 0).min() >= 2)


def shared_limit(limit: int | None, train: Labels, validation: Labels) -> tuple[int | None, int | None]:
    """`dataset.limit_train`, shared between training and validation images in proportion.

    Raises ValueError, with a limit that works, where a part would have fewer images than classes.
    """
    if limit is None:
        return None, None
    total, classes = len(train) + len(validation), len(np.unique(train))

    def share(size: int) -> tuple[int, int]:
        held_out = max(1, round(size * len(validation) / total))
        return size - held_out, held_out

    if limit <= total and min(share(limit)) < classes:
        works = next((size for size in range(limit, total) if min(share(size)) >= classes), None)
        raise ValueError(
            f"dataset.limit_train must give each of {classes} classes images for training and for validation, got "
            f"{limit}: set dataset.limit_train={'null for all images' if works is None else works}"
        )
    if limit > total:
        raise ValueError(
            f"dataset.limit_train must be at most {total}, all the images, got {limit}: set dataset.limit_train=null "
            "for all"
        )
    return share(limit)


def stratified_subset(labels: Labels, size: int | None, *, seed: int, field: str) -> Indices:
    """Positions of `size` labels (None: all), in random order, each class in proportion and at least once.

    Raises ValueError, naming `field`, if there are fewer places than classes or more than labels.
    """
    classes = len(np.unique(labels))
    size = len(labels) if size is None else size
    if size < classes:
        raise ValueError(f"{field} must be at least {classes}, one image a class, got {size}: set {field}={classes}")
    if size > len(labels):
        raise ValueError(f"{field} must be at most {len(labels)}, all the images, got {size}: set {field}=null for all")
    return _draw(labels, size, seed=seed, leave=0)


def stratified_split(labels: Labels, fraction: float, *, seed: int, field: str) -> tuple[Indices, Indices]:
    """Positions of the rest and of the `fraction` split off, in random order, classes in proportion.

    Both parts hold every class. Raises ValueError, naming `field`, if that cannot be.
    """
    names, counts = np.unique(labels, return_counts=True)
    classes, total, size = len(names), len(labels), round(len(labels) * fraction)
    if counts.min() < 2:
        raise ValueError(
            f"a class must have at least 2 images to be split by {field}, "
            f"got 1 of class number {names[counts.argmin()]}: use more images of it"
        )
    if not classes <= size <= total - classes:
        low, high = math.ceil(1000 * classes / total) / 1000, math.floor(1000 - 1000 * classes / total) / 1000
        mend = f"set {field}={low:g}, or up to {high:g}" if low <= high else "add images, 2 of each class or more"
        raise ValueError(
            f"{field} must give each part an image of each of the {classes} classes, got {fraction:g} of "
            f"{total} images, which is {size}: {mend}"
        )
    part = _draw(labels, size, seed=seed, leave=1)
    rest = np.setdiff1d(np.arange(total), part)
    return np.random.default_rng(seed).permutation(rest), part


def _draw(labels: Labels, size: int, *, seed: int, leave: int) -> Indices:
    """`size` positions in random order, at least one of each class and at most all of it but `leave`."""
    rng = np.random.default_rng(seed)
    names, counts = np.unique(labels, return_counts=True)
    chosen = [
        rng.permutation(np.flatnonzero(labels == name))[:taken]
        for name, taken in zip(names, _apportion(counts, size, leave), strict=True)
    ]
    return rng.permutation(np.concatenate(chosen))


def _apportion(counts: Indices, size: int, leave: int) -> Indices:
    """Share `size` places among classes by largest remainder, within 1 and `counts - leave` each."""
    most = counts - leave
    taken: Indices = np.clip(counts * size // counts.sum(), 1, most)
    while (missing := size - taken.sum()) != 0:
        owed = counts * size - taken * counts.sum()
        if missing > 0:
            taken[np.where(taken < most, owed, np.iinfo(np.int64).min).argmax()] += 1
        else:
            taken[np.where(taken > 1, owed, np.iinfo(np.int64).max).argmin()] -= 1
    return taken


def validate(arrays: Arrays) -> None:
    """Raise ValueError with one sentence for the first thing that is wrong with the arrays."""
    class_names = arrays.class_names
    if len(class_names) < 2:
        raise ValueError(f"class_names must name at least 2 classes, got {class_names}: add the missing names")
    names.check_classes(class_names)
    parts = {"train": (arrays.x_train, arrays.y_train), "test": (arrays.x_test, arrays.y_test)}
    if arrays.x_validation is not None and arrays.y_validation is not None:
        parts["validation"] = arrays.x_validation, arrays.y_validation
    for part, (images, _) in parts.items():
        _check_images(f"x_{part}", images)
    size = "{1}x{2}".format(*arrays.x_train.shape)
    for part, (images, _) in parts.items():
        if images.shape[1:3] != arrays.x_train.shape[1:3]:
            other = "{1}x{2}".format(*images.shape)
            raise ValueError(f"x_{part} must have x_train's image size, {size}, got {other}: resize one of them")
    for part, (images, labels) in parts.items():
        _check_labels(part, labels, len(images), class_names)


def _check_images(name: str, images: npt.NDArray[Any]) -> None:
    if images.dtype != np.uint8:
        unit = images.dtype.kind == "f" and images.size > 0 and images.max() <= 1
        mend = f"{'multiply by 255 and ' if unit else ''}cast with astype('uint8')"
        raise ValueError(f"{name} must be uint8 with values 0..255, got {images.dtype}: {mend}")
    if images.ndim != 4 or images.shape[3] != 3:
        mend = "put the channels last, repeat grey images over 3 of them"
        raise ValueError(f"{name} must have shape (n, height, width, 3), got {images.shape}: {mend}")


def _check_labels(part: str, labels: npt.NDArray[Any], images: int, class_names: tuple[str, ...]) -> None:
    y = f"y_{part}"
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{y} must hold integers, got {labels.dtype}: cast with astype('int64')")
    if labels.ndim != 1:
        raise ValueError(
            f"{y} must have one dimension, got shape {labels.shape}: use reshape(-1), or argmax(1) if one-hot"
        )
    if len(labels) != images:
        raise ValueError(
            f"{y} must hold one label for each of the {images} images of x_{part}, got {len(labels)}: "
            "save both from the same source"
        )
    outside = labels[(labels < 0) | (labels >= len(class_names))]
    if len(outside):
        x, top = f"x_{part}", len(class_names) - 1
        raise ValueError(
            f"{y} must lie in 0..{top}, indices into class_names, got {outside[0]}: add class names, or leave such "
            f"images out with keep = (0 <= {y}) & ({y} <= {top}); {x}, {y} = {x}[keep], {y}[keep]"
        )
    if absent := [class_names[number] for number in np.setdiff1d(np.arange(len(class_names)), labels)]:
        raise ValueError(
            f"{y} must hold every class, got no image of {listed(absent)}: add some, or take the class out of "
            "class_names and number the labels anew"
        )


def listed(values: Sequence[object]) -> str:
    """The first three values, and how many more there are."""
    shown = ", ".join(map(str, values[:3]))
    return f"{shown} and {len(values) - 3} more" if len(values) > 3 else shown
