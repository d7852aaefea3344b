"""Number of parameters and of operations of a network, from its Keras graph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tf_keras

_KERNELS = ("kernel", "depthwise_kernel", "pointwise_kernel")
_WITHOUT_KERNELS = ("Embedding", "PReLU")
# By exact class name: Conv2DTranspose inherits from Conv2D and computes something else.
_KINDS = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Dense")


def parameters(model: tf_keras.Model) -> int:
    """Number of weights, trainable or not, the statistics of batch normalization included."""
    return sum(math.prod(weight.shape) for weight in model.weights)


def macs(model: tf_keras.Model) -> int:
    """Multiply-accumulate operations for one image.

    Counted are Conv2D (with groups and strides), DepthwiseConv2D, SeparableConv2D, Dense, and the two products of
    Attention. Biases, normalization, activations, pooling, resizing and all other layers count 0, as is usual in the
    literature.
    The graph must be flat and its image size fixed; raises ValueError where a size is unknown.
    """
    return sum(_macs(layer) for layer in model.layers)


def kernels(model: tf_keras.Model) -> dict[str, np.ndarray]:
    """Kernels of the layers that `macs` counts, by `layer/kernel`."""
    return {
        f"{layer.name}/{attribute}": np.asarray(getattr(layer, attribute))
        for layer in model.layers
        if _kind(layer) in _KINDS
        for attribute in _KERNELS
        if getattr(layer, attribute, None) is not None
    }


def counts_all(model: tf_keras.Model) -> bool:
    """Whether every kernel is of a kind that `kernels` gives; layers of one's own may have others inside."""
    others = (layer for layer in model.layers if _kind(layer) not in (*_KINDS, *_WITHOUT_KERNELS))
    return all(len(weight.shape) < 2 for layer in others for weight in layer.weights)


def hides_kernels(layer: tf_keras.layers.Layer) -> bool:
    """Whether it is a layer of one's own with weights of two axes or more."""
    return not _kind(layer) and any(len(weight.shape) > 1 for weight in layer.weights)


def _kind(layer: tf_keras.layers.Layer) -> str:
    """The name of a class of Keras; empty for a layer of one's own, which may have the same."""
    own = type(layer)
    return own.__name__ if own.__module__.partition(".")[0] == "tf_keras" else ""


def _macs(layer: tf_keras.layers.Layer) -> int:
    kind = _kind(layer)
    if kind == "Attention":
        query, value, *key = (shape[1:] for shape in layer.input_shape)
        # Each query with each key, and each of these scores with a value.
        return int(math.prod(query) + math.prod(query[:-1]) * value[-1]) * int((key or [value])[0][-2])
    if kind not in _KINDS:
        return 0
    positions = layer.output_shape[1:-1]
    if kind != "Dense" and layer.data_format != "channels_last":
        raise ValueError(f"macs needs channels last, layer {layer.name} has {layer.data_format}: rebuild it")
    if None in positions:
        raise ValueError(f"macs needs a fixed image size, layer {layer.name} gives {layer.output_shape}")
    # Each entry of a kernel is used once at each output position, whatever the groups or strides.
    kernel_size = sum(math.prod(getattr(layer, attribute).shape) for attribute in _KERNELS if hasattr(layer, attribute))
    return int(math.prod(positions) * kernel_size)
