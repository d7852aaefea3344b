"""Label arrays of usual shapes and dtypes as class numbers from 0, where their meaning is unambiguous."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.datasets.splitting import Labels
from pipelines.system.names import class_name
from pipelines.system.words import some

Array = npt.NDArray[Any]


def as_numbers(
    parts: Mapping[str, Array], class_names: Array | None, images: Mapping[str, tuple[str, int]]
) -> tuple[dict[str, Labels], tuple[str, ...], list[str]]:
    """Labels by their array's name, int64 (n,), the class names, and the conversions, in words.

    images: name and number of the images that each array labels. Raises ValueError, with a mend, for labels whose
    meaning is ambiguous.
    """
    done: list[str] = []
    numbers = {
        name: _numbers(name, labels, of=images[name], all_names=list(parts), done=done)
        for name, labels in parts.items()
    }
    names = None if class_names is None else _names(class_names)
    low = min(int(labels.min()) for labels in numbers.values())
    high = max(int(labels.max()) for labels in numbers.values())
    if low == 1 and (names is None or high == len(names)):
        numbers = {name: labels - 1 for name, labels in numbers.items()}
        done.append(f"labels 1..{high} were counted from 0")
    if names is None:
        # One wrong label must not create thousands of classes.
        if low < 0 or high > max(1000, 2 * sum(count for _, count in images.values())):
            raise ValueError(
                f"labels without class_names must be 0, 1, ..., got {low if low < 0 else high}: "
                f"number them with {_numbering(list(parts))}"
            )
        top = high - 1 if low == 1 else high
        if absent := np.setdiff1d(np.arange(top + 1), np.concatenate(list(numbers.values()))).tolist():
            counted = "1, 2" if low == 1 else "0, 1"
            missing = some([one + (low == 1) for one in absent])
            raise ValueError(
                f"labels without class_names must be {counted}, ... without gaps, got no {missing}: number them, and "
                f"save class_names too, with {_numbering(list(parts))}"
            )
        first = 1 if low == 1 else 0
        names = tuple(str(number) for number in range(first, high + 1))
        done.append(f"without class_names, classes are called {names[0]!r} to {names[-1]!r}")
    return numbers, names, list(dict.fromkeys(done))


def _numbers(name: str, labels: Array, *, of: tuple[str, int], all_names: list[str], done: list[str]) -> Labels:
    x, images = of
    if labels.dtype.kind in "US":
        raise ValueError(f"{name} must hold class numbers, got text: number them with {_numbering(all_names)}")
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold class numbers, got {labels.dtype}: save them as integers")
    if labels.ndim == 2 and 1 not in labels.shape:
        labels = _one_hot(name, labels, images)
        done.append("one-hot labels became class numbers")
    elif labels.ndim > 1:
        if labels.size != max(labels.shape):
            raise ValueError(f"{name} must hold one label for each image, got shape {labels.shape}: use one of them")
        done.append(f"labels of shape {labels.shape} lost a dimension")
        labels = labels.reshape(-1)
    if len(np.atleast_1d(labels)) != images or labels.size == 0:
        raise ValueError(
            f"{name} must hold one label for each of the {images} images of {x}, got {labels.size}: "
            "save both from the same source"
        )
    numbers = labels.astype(np.int64) if labels.dtype.kind != "f" else _integral(name, labels, x)
    return np.atleast_1d(numbers)


def _one_hot(name: str, labels: Array, images: int) -> Array:
    if len(labels) != images == labels.shape[1]:
        raise ValueError(
            f"{name} must be of shape (images, classes), got {labels.shape} for {images} images: use {name}.T"
        )
    ones = labels == 1
    if not ((labels == 0) | ones).all() or not (ones.sum(axis=1) == 1).all():
        raise ValueError(
            f"{name} of shape {labels.shape} must be one-hot, got rows that are not one 1 and else 0: "
            f"use {name}.argmax(1) if the largest is the class"
        )
    return labels.argmax(axis=1)  # type: ignore[no-any-return]


def _integral(name: str, labels: Array, x: str) -> Labels:
    wrong = labels[~(np.isfinite(labels) & (np.rint(labels) == labels))]
    if len(wrong):
        raise ValueError(
            f"{name} must hold class numbers, got {wrong[0]:g}: leave such images out with keep = {name} % 1 == 0; "
            f"{x}, {name} = {x}[keep], {name}[keep]"
        )
    return labels.astype(np.int64)


def _names(class_names: Array) -> tuple[str, ...]:
    if class_names.dtype.kind not in "USiu" or class_names.size != max(class_names.shape, default=0):
        raise ValueError(
            f"class_names must be text of one dimension, got {class_names.dtype} of shape {class_names.shape}: "
            "write it as np.array(['cat', 'dog'])"
        )
    flat = class_names.reshape(-1)
    try:
        return tuple(class_name(name.decode() if isinstance(name, bytes) else str(name)) for name in flat.tolist())
    except UnicodeDecodeError as error:
        raise ValueError(
            f"class_names must be UTF-8, got {error.object!r}: use np.char.decode(class_names, 'latin-1')"
        ) from error


def _numbering(names: list[str]) -> str:
    every = ", ".join(f"{name}.ravel()" for name in names)
    numbered = ", ".join(f"np.searchsorted(class_names, {name})" for name in names)
    return f"class_names = np.unique(np.concatenate([{every}])); {', '.join(names)} = {numbered}"
