"""Convolutions as a CPU computes them in training: TensorFlow's own sums, by operators several times as fast.

TensorFlow leaves them to oneDNN, which is slow at what networks for small images are full of:

- A kernel of one pixel makes a convolution a product of two matrices, and as one it takes down to a third of the time.
- On a map smaller than the kernel some of its taps meet nothing but padding. They are left out, their gradient is 0.
- The gradient of a depthwise kernel that is wider than 3, or larger than its map, falls to oneDNN's code for grouped
  convolutions, which makes 16 x 16 channels of each. From a map that is padded beforehand and a strip of 3 columns at a
  time, oneDNN's code for depthwise ones takes it.

What each is worth: docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pipelines.system import runtime

# The widest depthwise kernel whose gradient oneDNN has code of its own for.
STRIP = 3


@contextmanager
def quick_convolutions() -> Iterator[None]:
    """Have Keras's convolutions computed as above in every graph that is traced meanwhile, where there is no GPU.

    The layers take TensorFlow's two functions from `tensorflow.compat.v2`, where these stand in for them.
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


def _quick(own: Callable[..., Any]) -> Callable[..., Any]:
    """`tf.nn.convolution` as Keras calls it. own: TensorFlow's."""

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
            kernel = _meeting(maps, kernel, strides, padding)
            if kernel.shape[:2] == (1, 1):
                pixels, (channels, filters) = _strided(maps, strides), kernel.shape[2:]
                product = tf.matmul(tf.reshape(pixels, [-1, channels]), tf.reshape(kernel, [channels, filters]))
                return tf.reshape(product, [-1, *pixels.shape[1:3], filters])
        return own(maps, kernel, strides=strides, padding=padding, data_format=data_format, dilations=dilations, **name)

    return convolution


def _quick_depthwise(own: Callable[..., Any]) -> Callable[..., Any]:
    """`tf.nn.depthwise_conv2d` as Keras calls it. own: TensorFlow's."""

    def depthwise_conv2d(
        maps: Any, kernel: Any, *, strides: Sequence[int], padding: str, data_format: str, dilations: Sequence[int]
    ) -> Any:
        import tensorflow as tf

        forward = partial(own, strides=strides, padding=padding, data_format=data_format, dilations=dilations)
        if not _is_plain(maps, kernel, data_format, dilations) or kernel.shape[3] != 1:
            return forward(maps, kernel)
        kernel = _meeting(maps, kernel, strides[1:3], padding)
        height, width = kernel.shape[:2]
        if (height, width) == (1, 1):
            return _strided(maps, strides[1:3]) * tf.reshape(kernel, [-1])
        if width <= STRIP and (padding == "VALID" or (height <= maps.shape[1] and width <= maps.shape[2])):
            return forward(maps, kernel)

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def convolved(maps: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
            def gradients(upstream: Any) -> tuple[Any, Any]:
                of_maps = tf.nn.depthwise_conv2d_backprop_input(tf.shape(maps), kernel, upstream, strides, padding)
                return of_maps, _of_kernel(maps, kernel.shape, upstream, strides, padding)

            return forward(maps, kernel), gradients

        return convolved(maps, kernel)

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


def _meeting(maps: Any, kernel: Any, strides: Sequence[int], padding: str) -> Any:
    """The taps of the kernel that meet a pixel of the map anywhere. Padded as before, they give the same sums."""
    if padding == "VALID":
        return kernel
    rows, columns = (
        _taps(size, taps, stride) for size, taps, stride in zip(maps.shape[1:3], kernel.shape[:2], strides, strict=True)
    )
    if (rows, columns) == (slice(0, kernel.shape[0]), slice(0, kernel.shape[1])):
        return kernel
    return kernel[rows, columns]


def _taps(size: int, taps: int, stride: int) -> slice:
    """Those of `taps` in a row that meet one of `size` pixels, padded as SAME."""
    before, outputs = _same(size, taps, stride)
    return slice(max(0, before - (outputs - 1) * stride), min(taps, size + before))


def _same(size: int, taps: int, stride: int) -> tuple[int, int]:
    """Zeros before the first of `size` pixels, and the number of outputs, of the padding SAME."""
    outputs = -(-size // stride)
    return max(0, (outputs - 1) * stride + taps - size) // 2, outputs


def _of_kernel(maps: Any, shape: Any, upstream: Any, strides: Sequence[int], padding: str) -> Any:
    """The gradient of a depthwise kernel (kh, kw, c, 1) from maps (b, h, w, c) and the outputs' (b, oh, ow, c)."""
    import tensorflow as tf

    height, width, channels, _ = shape
    paddings, needed = [], []
    for size, taps, stride, outputs in zip(
        maps.shape[1:3], (height, width), strides[1:3], upstream.shape[1:3], strict=True
    ):
        before = _same(size, taps, stride)[0] if padding == "SAME" else 0
        needed.append((outputs - 1) * stride + taps)
        paddings.append([before, max(0, needed[-1] - before - size)])
    padded = tf.pad(maps, [[0, 0], *paddings, [0, 0]])[:, : needed[0]]
    strips = []
    for first in range(0, width, STRIP):
        columns = min(STRIP, width - first)
        strip = padded[:, :, first : first + needed[1] - width + columns]
        strips.append(
            tf.nn.depthwise_conv2d_backprop_filter(strip, [height, columns, channels, 1], upstream, strides, "VALID")
        )
    return tf.concat(strips, axis=1)
