"""The description of a cell's data, printed before training."""

from __future__ import annotations

import hashlib
import textwrap
from typing import TYPE_CHECKING

import numpy as np

from pipelines.datasets.pixels import DARK
from pipelines.system import mapped

if TYPE_CHECKING:
    from pipelines.datasets.base import ImageData, Images, Split

# Fewer dark images than this fraction may be pictures of the night.
DARK_SHARE = 0.01
WIDTH = 79
# Up to so many class names are listed in full.
MAX_NAMES = 10


def description(name: str, data: ImageData) -> str:
    """Number of images and classes, then the dataset's own notes, in lines of at most 79 characters."""
    train, validation, test = (len(split) for split in (data.train, data.validation, data.test))
    height, width, _ = data.image_shape
    shown = data.class_names
    if len(shown) > MAX_NAMES:
        shown = (*shown[: MAX_NAMES - 2], f"... {shown[-1]}")
    counts = (
        f"{name}: {train:,} training, {validation:,} validation and {test:,} test images of {height}x{width} pixels, "
        f"{len(data.class_names)} classes: {', '.join(shown)}"
    )
    return "\n".join(
        textwrap.fill(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for line in (counts, *data.notes)
    )


def duplicates(train: Split, validation: Split, test: Split) -> str:
    """One sentence on test images that are also training or validation images, pixel for pixel; else empty."""
    tested = _hashes(test.images)
    found = []
    for split, what in ((train, "training"), (validation, "validation")):
        known = set(_hashes(split.images))
        count = sum(one in known for one in tested)
        if count:
            found.append(
                f"1 test image is a {what} image" if count == 1 else f"{count:,} test images are {what} images"
            )
    if not found:
        return ""
    return f"{' and '.join(found)} too, pixel by pixel, of {len(test):,}: accuracy looks better than it is"


def dark(*parts: Images) -> str:
    """One sentence where many images have no bright pixel, as of 12 bits in files of 16; else empty."""
    total = sum(map(len, parts))
    count = sum(
        int((block.reshape(len(block), -1).max(axis=1) < DARK).sum())
        for images in parts
        for block in mapped.blocks(images)
    )
    if count < max(1, DARK_SHARE * total):
        return ""
    return (
        f"{'all' if count == total else f'{count:,} of {total:,}'} images have no pixel of {DARK} or more, of 255: if "
        "they have a scale of their own, such as 12 bits in 16, save them with their brightest value as white"
    )


def resized(image_size: int, input_size: int | None, *, can_be_larger: bool, is_fixed: bool) -> str:
    """One sentence where a network's input has fewer pixels than the dataset's images, or needlessly more; else empty.

    can_be_larger: whether the dataset can give images of another size. is_fixed: whether the network takes no other.
    """
    if input_size is None or input_size == image_size or (input_size > image_size and not can_be_larger):
        return ""
    if input_size > image_size:
        return (
            f"the network sees {input_size}x{input_size} pixels, and images of {image_size}x{image_size} are enlarged: "
            f"dataset.image_size={input_size} keeps their detail"
        )
    sees = f"the network sees {input_size}x{input_size} of {image_size}x{image_size} pixels"
    if not is_fixed:
        return f"{sees}: model.input_size={image_size} lets it see all of them"
    return f"{sees}: dataset.image_size={input_size} reads them as it takes them" if can_be_larger else f"{sees} each"


def _hashes(images: Images) -> list[bytes]:
    return [
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        for block in mapped.blocks(images)
        for image in block
    ]
