"""What a cell says of its data before it trains."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.system import mapped

if TYPE_CHECKING:
    from pipelines.datasets.base import ImageData, Images, Split

WIDTH = 79
# So many class names are listed in full.
LISTED = 10


def description(name: str, data: ImageData) -> str:
    """How many images of which classes, then the dataset's own notes, in lines of at most 79 characters."""
    train, validation, test = (len(split) for split in (data.train, data.validation, data.test))
    height, width, _ = data.image_shape
    counts = (
        f"{name}: {train:,} training, {validation:,} validation and {test:,} test images of {height}x{width} pixels, "
        f"{len(data.class_names)} classes: {_listed(data.class_names)}"
    )
    lines = [
        textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_on_hyphens=False) for line in (counts, *data.notes)
    ]
    return "\n".join("\n".join(line) for line in lines)


def duplicates(train: Split, test: Split) -> str:
    """One sentence on test images whose very pixels are training images too; empty where there are none."""
    known = set(_hashes(train.images))
    count = sum(one in known for one in _hashes(test.images))
    if not count:
        return ""
    which = "1 test image is a training image" if count == 1 else f"{count:,} test images are training images"
    return f"{which} too, pixel by pixel, of {len(test):,}: accuracy looks better than it is"


def resized(image_size: int, input_size: int | None) -> str:
    """One sentence where a network sees fewer pixels than the dataset holds; else empty."""
    if input_size is None or input_size >= image_size:
        return ""
    return (
        f"the network sees {input_size}x{input_size} of {image_size}x{image_size} pixels: "
        f"model.input_size={image_size} lets it see all of them"
    )


def _listed(names: Sequence[str]) -> str:
    if len(names) <= LISTED:
        return ", ".join(names)
    return f"{', '.join(names[: LISTED - 2])}, ... {names[-1]}"


def _hashes(images: Images) -> list[bytes]:
    return [
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
        for block in mapped.blocks(images)
        for image in block
    ]
