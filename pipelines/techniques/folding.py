"""Which batch normalizations the converter multiplies into a kernel, and which kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipelines.models.channels import is_of_channels

if TYPE_CHECKING:
    import tf_keras

_WITH_KERNEL = ("Conv2D", "Dense", "DepthwiseConv2D", "SeparableConv2D")
# Layers through which a factor of each channel passes.
_LINEAR = ("AveragePooling2D", "Dropout", "Flatten", "GlobalAveragePooling2D", "Reshape", "ZeroPadding2D")


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
