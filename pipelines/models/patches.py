"""Patches of images by operators of TensorFlow Lite, which has none of its own for them.

Vision transformers of one's own cut images by `tf.image.extract_patches`, which TensorFlow Lite does not take, or by
`keras.ops.image.extract_patches`, whose kernel it takes for an activation.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np


@contextmanager
def by_builtin_operators() -> Iterator[None]:
    """Let both functions compute what they do by builtin operators, for what is traced in this context."""
    import tensorflow as tf

    with ExitStack() as context:
        context.enter_context(mock.patch.object(tf.image, "extract_patches", _of_tensorflow))
        # A network of opscore's own has loaded no Keras 3.
        if "keras.ops.image" in sys.modules:
            image = sys.modules["keras.ops.image"]
            context.enter_context(mock.patch.object(image, "extract_patches", _of_keras(image.extract_patches)))
        yield


def _of_tensorflow(
    images: Any, sizes: Sequence[int], strides: Sequence[int], rates: Sequence[int], padding: str, **_: Any
) -> Any:
    return _patches(images, sizes[1:3], strides[1:3], rates[1:3], padding)


def _of_keras(original: Any) -> Any:
    def extract_patches(
        images: Any, size: Any, strides: Any = None, dilation_rate: Any = 1, padding: str = "valid", **more: Any
    ) -> Any:
        sizes, rates = (_pair(one) for one in (size, dilation_rate))
        if len(images.shape) != 4 or len(sizes) != 2 or more.get("data_format") == "channels_first":
            return original(images, size, strides, dilation_rate, padding, **more)
        return _patches(images, sizes, _pair(strides or size), rates, padding)

    return extract_patches


def _pair(one: Any) -> tuple[int, ...]:
    return (one, one) if isinstance(one, int) else tuple(one)


def _patches(images: Any, size: Sequence[int], strides: Sequence[int], rates: Sequence[int], padding: str) -> Any:
    """(batch, height, width, channels) as (batch, rows, columns, pixels and channels of a patch)."""
    import tensorflow as tf

    _, *shape, channels = images.shape
    (height, width), places = size, [one // side for one, side in zip(shape, size, strict=True)]
    whole = [number * side for number, side in zip(places, size, strict=True)]
    beside = tuple(strides) == tuple(size) and tuple(rates) == (1, 1)
    if beside and (padding.upper() == "VALID" or whole == list(shape)):
        rows, columns = places
        images = images[:, : whole[0], : whole[1]]
        cut = tf.reshape(images, (-1, rows, height, columns, width * channels))
        return tf.reshape(tf.transpose(cut, (0, 1, 3, 2, 4)), (-1, rows, columns, height * width * channels))
    number = height * width * channels
    kernel = tf.constant(np.eye(number).reshape(height, width, channels, number), images.dtype)
    return tf.nn.conv2d(images, kernel, tuple(strides), padding.upper(), dilations=tuple(rates))
