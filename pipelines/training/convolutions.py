"""Faster convolutions for training on a CPU, with the same results as TensorFlow's.

TensorFlow uses oneDNN, which is slow for operations that are frequent in networks for small images:

- A convolution by a kernel of one pixel is a matrix product, which takes down to a third of the time.
- The gradient of a kernel on a small map is a matrix product for each tap, which takes down to a quarter of the time,
  above all in bfloat16.
- On a map smaller than the kernel, some taps multiply only padding. They are removed; their gradient is 0.
- For the gradient of a depthwise kernel that is wider than 3, or larger than its map, oneDNN uses its code for grouped
  convolutions, which expands each channel to 16 x 16. With a map padded beforehand, and strips of 3 columns, it uses
  its code for depthwise convolutions.

Measured gains: docs/maintainers/performance-training.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pipelines.system import runtime

# Width of the widest depthwise kernel for whose gradient oneDNN has special code.
STRIP = 3
# Pixels of the largest map on which a product for each tap is faster than oneDNN's gradient of a kernel; in bfloat16,
# maps of few channels must be smaller.
SMALL, SMALL_BFLOAT16 = 4, 64


@contextmanager
def quick_convolutions() -> Iterator[None]:
    """A context in which traced graphs use these convolutions; without effect on a GPU.

    It replaces the two functions of `tensorflow.compat.v2` that Keras's layers call.
    """
    from tensorflow.compat.v2 import nn

    if runtime.gpus():
        yield
        return
    convolution, depthwise = nn.convolution, nn.depthwise_conv2d
    nn.convolution, nn.depthwise_conv2d = _quick(convolution), _quick_depthwise(depthwise)
    try:
        yield
    finally:
        nn.convolution, nn.depthwise_conv2d = convolution, depthwise


def _quick(original: Callable[..., Any]) -> Callable[..., Any]:
    """A replacement of `tf.nn.convolution` for Keras. original: TensorFlow's."""

    def convolution(
        maps: Any,
        kernel: Any,
        *,
        strides: Sequence[int],
        padding: str,
        data_format: str,
        dilations: Sequence[int],
        **name: str,
    ) -> Any:
        import tensorflow as tf

        if _is_plain(maps, kernel, data_format, dilations):
            kernel = _effective(maps, kernel, strides, padding)
            if kernel.shape[:2] == (1, 1):
                pixels, (channels, filters) = _strided(maps, strides), kernel.shape[2:]
                product = tf.matmul(tf.reshape(pixels, [-1, channels]), tf.reshape(kernel, [channels, filters]))
                return tf.reshape(product, [-1, *pixels.shape[1:3], filters])
            if _is_small(maps, kernel, strides, padding):
                return _with_gradients(
                    partial(original, strides=strides, padding=padding),
                    lambda maps, kernel, upstream: (
                        tf.nn.conv2d_transpose(upstream, kernel, tf.shape(maps), strides, padding),
                        _by_taps(maps, kernel.shape, upstream, strides, padding),
                    ),
                )(maps, kernel)
        settings = {"strides": strides, "padding": padding, "data_format": data_format, "dilations": dilations}
        return original(maps, kernel, **settings, **name)

    return convolution


def _is_small(maps: Any, kernel: Any, strides: Sequence[int], padding: str) -> bool:
    """Whether the map of outputs is so small that a product for each tap is faster."""
    rows, columns = (
        _same(size, taps, stride)[1] if padding == "SAME" else (size - taps) // stride + 1
        for size, taps, stride in zip(maps.shape[1:3], kernel.shape[:2], strides, strict=True)
    )
    return rows * columns <= (min(SMALL_BFLOAT16, maps.shape[3] // 2) if maps.dtype == "bfloat16" else SMALL)


def _with_gradients(
    forward: Callable[[Any, Any], Any], gradients: Callable[[Any, Any, Any], tuple[Any, Any]]
) -> Callable[[Any, Any], Any]:
    """`forward` of maps and kernel, with other gradients of both than TensorFlow's, from the outputs' gradient."""
    import tensorflow as tf

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def convolved(maps: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        return forward(maps, kernel), lambda upstream: gradients(maps, kernel, upstream)

    return convolved  # type: ignore[no-any-return]


def _by_taps(maps: Any, shape: Any, upstream: Any, strides: Sequence[int], padding: str) -> Any:
    """The gradient of a kernel (kh, kw, c, n) from maps (b, h, w, c) and the outputs' (b, oh, ow, n)."""
    import tensorflow as tf

    height, width, channels, filters = shape
    rows, columns = upstream.shape[1:3]
    padded = _padded(maps, (height, width), (rows, columns), strides, padding)
    outputs = tf.reshape(upstream, [-1, filters])
    taps = [
        padded[:, i : i + (rows - 1) * strides[0] + 1 : strides[0], j : j + (columns - 1) * strides[1] + 1 : strides[1]]
        for i in range(height)
        for j in range(width)
    ]
    products = [tf.matmul(tf.reshape(tap, [-1, channels]), outputs, transpose_a=True) for tap in taps]
    return tf.reshape(tf.stack(products), [height, width, channels, filters])


def _quick_depthwise(original: Callable[..., Any]) -> Callable[..., Any]:
    """A replacement of `tf.nn.depthwise_conv2d` for Keras. original: TensorFlow's."""

    def depthwise_conv2d(
        maps: Any, kernel: Any, *, strides: Sequence[int], padding: str, data_format: str, dilations: Sequence[int]
    ) -> Any:
        import tensorflow as tf

        forward = partial(original, strides=strides, padding=padding, data_format=data_format, dilations=dilations)
        if not _is_plain(maps, kernel, data_format, dilations) or kernel.shape[3] != 1:
            return forward(maps, kernel)
        kernel = _effective(maps, kernel, strides[1:3], padding)
        height, width = kernel.shape[:2]
        if (height, width) == (1, 1):
            return _strided(maps, strides[1:3]) * tf.reshape(kernel, [-1])
        if width <= STRIP and (padding == "VALID" or (height <= maps.shape[1] and width <= maps.shape[2])):
            return forward(maps, kernel)

        return _with_gradients(
            forward,
            lambda maps, kernel, upstream: (
                tf.nn.depthwise_conv2d_backprop_input(tf.shape(maps), kernel, upstream, strides, padding),
                _kernel_gradient(maps, kernel.shape, upstream, strides, padding),
            ),
        )(maps, kernel)

    return depthwise_conv2d


def _is_plain(maps: Any, kernel: Any, data_format: str, dilations: Sequence[int]) -> bool:
    """Whether it is a convolution (b, h, w, c) of known size by (kh, kw, c, n), neither grouped nor dilated."""
    return (
        kernel.shape.rank == 4
        and data_format == "NHWC"
        and None not in maps.shape[1:]
        and kernel.shape[2] == maps.shape[3]
        and all(dilation == 1 for dilation in dilations)
    )


def _strided(maps: Any, strides: Sequence[int]) -> Any:
    return maps if tuple(strides) == (1, 1) else maps[:, :: strides[0], :: strides[1]]


def _effective(maps: Any, kernel: Any, strides: Sequence[int], padding: str) -> Any:
    """The taps of the kernel that meet a pixel of the map anywhere; with the same padding, they give the same sums."""
    if padding == "VALID":
        return kernel
    rows, columns = (
        _taps(size, taps, stride) for size, taps, stride in zip(maps.shape[1:3], kernel.shape[:2], strides, strict=True)
    )
    if (rows, columns) == (slice(0, kernel.shape[0]), slice(0, kernel.shape[1])):
        return kernel
    return kernel[rows, columns]


def _taps(size: int, taps: int, stride: int) -> slice:
    """The part of `taps` in a row that meets any of `size` pixels, with padding SAME."""
    before, outputs = _same(size, taps, stride)
    return slice(max(0, before - (outputs - 1) * stride), min(taps, size + before))


def _same(size: int, taps: int, stride: int) -> tuple[int, int]:
    """Number of zeros before the first of `size` pixels, and number of outputs, with padding SAME."""
    outputs = -(-size // stride)
    return max(0, (outputs - 1) * stride + taps - size) // 2, outputs


def _padded(maps: Any, taps: Sequence[int], outputs: Sequence[int], strides: Sequence[int], padding: str) -> Any:
    """Maps (b, h, w, c) with the zeros around that a kernel of so many taps meets, cut to what gives the outputs."""
    import tensorflow as tf

    paddings, needed = [], []
    for size, width, count, stride in zip(maps.shape[1:3], taps, outputs, strides, strict=True):
        before = _same(size, width, stride)[0] if padding == "SAME" else 0
        needed.append((count - 1) * stride + width)
        paddings.append([before, max(0, needed[-1] - before - size)])
    return tf.pad(maps, [[0, 0], *paddings, [0, 0]])[:, : needed[0], : needed[1]]


def _kernel_gradient(maps: Any, shape: Any, upstream: Any, strides: Sequence[int], padding: str) -> Any:
    """The gradient of a depthwise kernel (kh, kw, c, 1) from maps (b, h, w, c) and the outputs' (b, oh, ow, c)."""
    import tensorflow as tf

    height, width, channels, _ = shape
    padded = _padded(maps, (height, width), upstream.shape[1:3], strides[1:3], padding)
    strips = []
    for first in range(0, width, STRIP):
        columns = min(STRIP, width - first)
        strip = padded[:, :, first : first + padded.shape[2] - width + columns]
        strips.append(
            tf.nn.depthwise_conv2d_backprop_filter(strip, [height, columns, channels, 1], upstream, strides, "VALID")
        )
    return tf.concat(strips, axis=1)
