"""Seeded, stratified subsets and splits, as positions in an array of labels."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]
# The name of a setting.
VALIDATION_FRACTION = "dataset.validation_fraction"


def stratified_subset(labels: Labels, size: int | None, *, seed: int, field: str) -> Indices:
    """Positions of at most `size` labels (None: all), in random order, each class in proportion and at least once.

    Raises ValueError, naming `field`, if `size` is less than the number of classes.
    """
    classes = len(np.unique(labels))
    size = len(labels) if size is None else min(size, len(labels))
    if size < classes:
        raise ValueError(f"{field} must be at least {classes}, one image a class, got {size}: set {field}={classes}")
    return _draw(labels, size, seed=seed, leave=0)


def stratified_split(
    labels: Labels, fraction: float, *, seed: int, field: str, leave: int = 1
) -> tuple[Indices, Indices]:
    """Positions of the rest and of the `fraction` held out, in random order, classes in proportion.

    The part held out has every class, the rest at least `leave` images of it: a class must have more than `leave`.
    Raises ValueError, naming `field`, if the fraction makes that impossible.
    """
    part = _draw(labels, _held_out(labels, fraction, field=field, leave=leave), seed=seed, leave=leave)
    rest = np.setdiff1d(np.arange(len(labels)), part)
    return np.random.default_rng(seed).permutation(rest), part


def _held_out(labels: Labels, fraction: float, *, field: str, leave: int) -> int:
    """How many images the fraction takes. Raises ValueError as `stratified_split` does."""
    classes, total, size = len(np.unique(labels)), len(labels), round(len(labels) * fraction)
    least, most = classes, total - leave * classes
    if least <= size <= most:
        return size
    working = [part / 1000 for part in range(1, 1000) if least <= round(total * part / 1000) <= most]
    mend = f"add images, {1 + leave} of each class or more"
    if working:
        mend = f"set {field}={working[0]:g}" + (f", or up to {working[-1]:g}" if len(working) > 1 else "")
    left = "an image" if leave == 1 else f"{leave} images"
    raise ValueError(
        f"{field} must take an image of each of the {classes} classes and leave {left} of each, got {fraction:g} "
        f"of {total} images, which is {size}: {mend}"
    )


def check_counts(labels: Mapping[str, Labels], class_names: Sequence[str]) -> None:
    """Raise ValueError, naming the class, where one has too few images of `train` for the parts made of them.

    labels: of each part that the source has; `test` and `validation` are held out of `train` where they are missing.
    """
    made = [name for part, name in (("validation", "validation"), ("test", "testing")) if part not in labels]
    counts = np.bincount(labels["train"], minlength=len(class_names))
    if made and counts.min() <= len(made):
        uses, name = f"{', '.join(['training', *made[:-1]])} and {made[-1]}", class_names[int(counts.argmin())]
        raise ValueError(
            f"a class must have at least {1 + len(made)} images, one each for {uses}, got {counts.min()} of {name!r}: "
            "add images of it, or leave the class out"
        )


def check_limit(labels: Labels, limit: int | None, fraction: float) -> None:
    """Raise ValueError where `dataset.limit_train` leaves a class without training or validation images.

    fraction: of the labels, held out for validation. The message names the next limit that works, or a fraction where
    even all images are too few.
    """
    counts = np.unique(labels, return_counts=True)[1]

    def works(size: int) -> bool:
        held_out = round(size * fraction)
        if not len(counts) <= held_out <= size - len(counts):
            return False
        return bool(_apportion(counts, size, 0).min() >= 2)

    if limit is None or limit > len(labels) or works(limit):
        return
    if not works(len(labels)):
        _held_out(labels, fraction, field=VALIDATION_FRACTION, leave=1)
    larger = (size for size in range(limit + 1, len(labels) + 1) if works(size))
    raise _too_few(len(counts), f"{limit} with {VALIDATION_FRACTION}={fraction:g}", larger)


def shared_limit(limit: int | None, train: Labels, validation: Labels) -> tuple[int | None, int | None]:
    """`dataset.limit_train`, shared between training and validation images in proportion.

    Raises ValueError, with a limit that works, where a part would have fewer images than classes.
    """
    total, classes = len(train) + len(validation), len(np.unique(train))
    if limit is None or limit >= total:
        return None, None

    def share(size: int) -> tuple[int, int]:
        held_out = max(1, round(size * len(validation) / total))
        return size - held_out, held_out

    if min(share(limit)) < classes:
        raise _too_few(classes, str(limit), (size for size in range(limit, total) if min(share(size)) >= classes))
    return share(limit)


def _too_few(classes: int, given: str, working: Iterable[int]) -> ValueError:
    return ValueError(
        f"dataset.limit_train must give each of {classes} classes images for training and for validation, got "
        f"{given}: set dataset.limit_train={next(iter(working), 'null for all images')}"
    )


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
    """`size` places shared among classes by largest remainder, at least 1 and at most `counts - leave` each."""
    available = counts - leave
    taken: Indices = np.clip(counts * size // counts.sum(), 1, available)
    while (missing := size - taken.sum()) != 0:
        owed = counts * size - taken * counts.sum()
        if missing > 0:
            taken[np.where(taken < available, owed, np.iinfo(np.int64).min).argmax()] += 1
        else:
            taken[np.where(taken > 1, owed, np.iinfo(np.int64).max).argmin()] -= 1
    return taken
