"""A network with fake int8 quantization, by `tfmot.quantization.keras`, for layers beyond those that tfmot knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.techniques.folding import is_folded

if TYPE_CHECKING:
    import numpy.typing as npt
    import tf_keras

# Layers after which pixels have the range that they had before.
_KEEP_RANGE = ("AveragePooling2D", "CenterCrop", "InputLayer", "MaxPooling2D", "Permute", "Reshape", "Resizing")
_SCALING = ("Normalization", "Rescaling")
PIXELS = np.array([0.0, 255.0])


def fake_quantized(model: tf_keras.Model) -> tf_keras.Model:
    """A copy of the model that rounds weights and activations like int8; layers are named `quant_*`."""
    import tensorflow_model_optimization as tfmot
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_configs,
        default_8bit_quantize_registry,
    )

    registry = default_8bit_quantize_registry.Default8BitQuantizeRegistry()

    class RangeOnly(default_8bit_quantize_configs.Default8BitOutputQuantizeConfig):  # type: ignore[misc]
        """For layers that tfmot does not know: gives their output a range, which the converter needs for integers."""

    def annotate(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        kind = type(layer).__name__
        if kind == "InputLayer":
            return layer
        known = registry.supports(layer) or (kind == "BatchNormalization" and is_folded(layer))
        if kind == "Activation":
            known = layer.get_config()["activation"] in ("relu", "linear", "softmax")
        config = None if known else RangeOnly()
        return tfmot.quantization.keras.quantize_annotate_layer(layer, quantize_config=config)

    # The annotations share layers with what they annotate: annotate a copy.
    copy = _with_integer_scaling(model)
    annotated = tf_keras.models.clone_model(copy, clone_function=annotate)
    scope = tfmot.quantization.keras.quantize_scope({"RangeOnly": RangeOnly, "Scaling": _scaling_layer()})
    with scope, _weights_before_relu():
        wrapped = tfmot.quantization.keras.quantize_apply(annotated)
    for wrapper in wrappers(wrapped):
        for activation in wrapper._quantize_activations:
            # tfmot rounds only the output of a swish; its input needs a range too.
            if getattr(activation.activation, "__name__", "") == "swish":
                activation._pre_activation_vars = activation.quantizer.build(None, "pre_activation", wrapper)
                activation._should_pre_quantize = lambda: True
    return wrapped


@contextmanager
def _weights_before_relu() -> Iterator[None]:
    """Let tfmot round the weights of a layer that a ReLU follows, without a batch normalization between them.

    tfmot means to leave out the range between the two, and leaves out the weights as well.
    """
    from tensorflow_model_optimization.python.core.quantization.keras import quantize_aware_activation
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import default_8bit_transforms

    transform = default_8bit_transforms.LayerReLUQuantize
    original = transform.replacement

    def replacement(self: Any, match_layer: Any) -> Any:
        before = match_layer.input_layers[0]
        if before.layer["class_name"] == "Add":
            return original(self, match_layer)
        utilities = default_8bit_transforms.quantize_utils
        nothing = quantize_aware_activation.NoOpActivation()
        before.layer["config"]["activation"] = utilities.serialize_activation(nothing, use_legacy_format=True)
        return match_layer

    transform.replacement = replacement
    try:
        yield
    finally:
        transform.replacement = original


def _with_integer_scaling(model: tf_keras.Model) -> tf_keras.Model:
    """A copy whose preprocessing has a range between its multiplication and its addition.

    Without one, the converter leaves floats there.
    """
    import tf_keras

    scaling, of_pixels = _scaling_layer(), _layers_of_pixels(model)
    # Of the pixels after each layer of the preprocessing, which may have branches.
    bounds: dict[str, npt.NDArray[np.float64]] = {}

    def exchange(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        if layer.name not in of_pixels:
            return layer.__class__.from_config(layer.get_config())
        before = np.concatenate([bounds.get(name, PIXELS) for name in of_pixels[layer.name]] or [PIXELS])
        own = bounds[layer.name] = np.array([before.min(), before.max()])
        if type(layer).__name__ == "Rescaling":
            scale, offset = (np.atleast_1d(one).astype(float) for one in (layer.scale, layer.offset))
        elif type(layer).__name__ == "Normalization":
            mean, variance = layer.get_weights()[:2]
            deviation = np.maximum(np.sqrt(variance), 1e-7)  # as Keras guards it
            scale, offset = 1 / deviation, -mean / deviation
        else:
            return layer.__class__.from_config(layer.get_config())
        multiplied = np.outer(scale, own)
        # Integers have an exact zero, so a range that leaves it out is moved until it has it.
        low, high = min(0.0, float(multiplied.min())), max(0.0, float(multiplied.max()))
        shifted = multiplied + np.reshape(offset, (-1, 1))
        bounds[layer.name] = np.array([shifted.min(), shifted.max()])
        return scaling(scale.tolist(), offset.tolist(), low, high, name=layer.name)

    copy = tf_keras.models.clone_model(model, clone_function=exchange)
    for layer in copy.layers:
        if type(layer) is not scaling:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    return copy


def _layers_of_pixels(model: tf_keras.Model) -> dict[str, set[str]]:
    """The layers up to the first that computes something else than the pixels' size and scale, with their sources."""
    found: dict[str, set[str]] = {}
    for entry in model.get_config()["layers"]:
        sources = {tensor[0] for node in entry["inbound_nodes"] for tensor in node if isinstance(tensor, list)}
        if entry["class_name"] in (*_KEEP_RANGE, *_SCALING) and sources <= found.keys():
            found[entry["name"]] = sources
    return found


@cache
def _scaling_layer() -> type:
    import tensorflow as tf
    import tf_keras

    class Scaling(tf_keras.layers.Layer):  # type: ignore[misc]
        """x * scale + offset; low, high: the range of the product for pixels from 0 to 255, and 0."""

        def __init__(self, scale: list[float], offset: list[float], low: float, high: float, **more: Any) -> None:
            super().__init__(**more)
            self.scale, self.offset, self.low, self.high = scale, offset, low, high

        def call(self, pixels: Any) -> Any:
            product = pixels * tf.constant(self.scale)
            if not any(self.offset):
                return product
            return tf.quantization.fake_quant_with_min_max_args(product, self.low, self.high) + tf.constant(self.offset)

        def get_config(self) -> dict[str, Any]:
            own = {"scale": list(self.scale), "offset": list(self.offset), "low": self.low, "high": self.high}
            return {**super().get_config(), **own}

    return Scaling


def wrappers(wrapped: tf_keras.Model) -> Iterator[Any]:
    """tfmot's wrappers of a network's layers."""
    return (layer for layer in wrapped.layers if type(layer).__name__ == "QuantizeWrapperV2")
