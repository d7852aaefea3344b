"""Which batch normalizations the converter multiplies into a kernel, and which kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.models.channels import is_of_channels

if TYPE_CHECKING:
    import tf_keras

_WITH_KERNEL = ("Conv2D", "Dense", "DepthwiseConv2D", "SeparableConv2D")
# Layers through which a factor of each channel passes; those of noise are left out of an exported model.
_LINEAR = (
    "AveragePooling2D", "Flatten", "GlobalAveragePooling2D", "Reshape", "ZeroPadding2D", "Dropout", "AlphaDropout",
    "GaussianDropout", "GaussianNoise", "SpatialDropout1D", "SpatialDropout2D",
)  # fmt: skip
# A channel whose weights are a smaller share than this of the largest of its kernel counts as one with such weights.
MIN_SHARE = 1e-4


def is_linear(layer: tf_keras.layers.Layer) -> bool:
    """Whether a layer with a kernel has no activation of its own, which may be a layer too."""
    return getattr(layer.activation, "__name__", "") == "linear"


def folded_normalization(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer | None:
    """The batch normalization that is multiplied into the kernel of the layer before it, if any."""
    if type(layer).__name__ not in _WITH_KERNEL or not is_linear(layer):
        return None
    after = [node.layer for node in layer.outbound_nodes]
    return after[0] if len(after) == 1 and is_of_channels(after[0]) else None


def is_folded(normalization: tf_keras.layers.Layer) -> bool:
    """Whether a batch normalization is multiplied into the kernel of the layer before it."""
    return folded_normalization(normalization.inbound_nodes[0].inbound_layers) is normalization


def takes_normalized(layer: tf_keras.layers.Layer) -> bool:
    """Whether a batch normalization before the layer is multiplied into its kernel, by input channel.

    It is where no convolution before the normalization takes it up.
    """
    while True:
        nodes = layer.inbound_nodes
        before = nodes[0].inbound_layers if nodes else []
        if isinstance(before, list):
            if len(before) != 1:
                return False
            (before,) = before
        if type(before).__name__ == "BatchNormalization":
            return not is_folded(before)
        if type(before).__name__ not in _LINEAR:
            return False
        layer = before


def equalize(model: tf_keras.Model) -> None:
    """Let all channels of a depthwise kernel have weights of the same size, where a batch normalization takes it up.

    The answers stay. In training, a depthwise kernel is rounded with one scale: a channel whose weights are a hundredth
    of the largest would be left with three values. The converter multiplies the normalization into the kernel, and
    gives each channel a scale of its own. Source: Nagel et al. 2019, arXiv:1906.04721, who equalize by the next layer.
    """
    for layer in model.layers:
        normalization = folded_normalization(layer)
        if type(layer).__name__ != "DepthwiseConv2D" or normalization is None or not normalization.scale:
            continue
        # A constraint, such as one on their norm, would change the larger weights.
        if layer.depthwise_constraint is not None or not layer.depthwise_kernel.numpy().any():
            continue
        kernel, *bias = (weight.astype(np.float64) for weight in layer.get_weights())
        largest = abs(kernel).max(axis=(0, 1))
        largest = np.maximum(largest, MIN_SHARE * largest.max())
        by_channel = largest.reshape(-1)
        variance, epsilon = normalization.moving_variance.numpy().astype(np.float64), normalization.epsilon
        scaled = variance / by_channel**2
        layer.set_weights([kernel / largest, *(one / by_channel for one in bias)])
        normalization.moving_mean.assign(normalization.moving_mean.numpy() / by_channel)
        normalization.moving_variance.assign(scaled)
        factor = by_channel * np.sqrt((scaled + epsilon) / (variance + epsilon))
        normalization.gamma.assign(normalization.gamma.numpy() * factor)


def mirror(model: tf_keras.Model) -> None:
    """Let no batch normalization after a convolution have a negative scale, now and in training; the answers stay.

    The converter multiplies the scale into the kernel. Filters of a negative one would have the clusters' values with
    the other sign, and the kernel twice as many of them.
    """
    import tf_keras

    for layer in model.layers:
        normalization = folded_normalization(layer)
        if type(layer).__name__ not in ("Conv2D", "Dense") or normalization is None or not normalization.scale:
            continue
        signs = np.where(normalization.gamma.numpy() < 0, -1, 1).astype(np.float32)
        layer.set_weights([weight * signs for weight in layer.get_weights()])
        for weight in (normalization.gamma, normalization.moving_mean):
            weight.assign(weight * signs)
        normalization.gamma_constraint = tf_keras.constraints.NonNeg()
