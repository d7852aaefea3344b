"""Layers and operations of Keras 2 and 3 as plain layers of tf_keras."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from pipelines.models.keras_value import Value
from pipelines.system import guard

Namer = Callable[..., str]
# Activations that are equal in both generations, by their names in Keras 3.
_EQUAL = {
    "elu": "elu", "exponential": "exponential", "gelu": "gelu", "linear": "linear", "mish": "mish", "relu": "relu",
    "relu6": "relu6",
    "selu": "selu", "sigmoid": "sigmoid", "silu": "swish", "softmax": "softmax", "softplus": "softplus",
    "softsign": "softsign", "swish": "swish", "tanh": "tanh",
}  # fmt: skip
# Options that change what a layer computes, and that its class of Keras 2 may lack.
_ONLY_KERAS_3 = ("antialias", "pad_to_aspect_ratio", "rms_scaling")
# Activations that stay inside their layer: tfmot knows them there.
_INSIDE = ("linear", "relu")


class UnsupportedLayerError(ValueError):
    """A layer that cannot be rebuilt, named in the message."""


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Makes the layers of tf_keras that compute what one layer of the loaded model computes."""

    layer: Any
    generation: int
    custom: dict[str, Any]
    name: Namer

    def call(self, values: Sequence[Value]) -> Value:
        """The layer's output on `values`, with its weights."""
        of_kind: dict[str, Callable[..., Value]] = {
            # InceptionResNetV2's, in Keras 3.
            "CustomScaleLayer": self._scaled_sum,
            "SeparableConv2D": self._separable,
            "LayerScale": self._scale_of_channels,
            "StochasticDepth": self._drop_of_images,
            "Normalization": self._normalization,
            "RandomCrop": self._cut,
            "Rescaling": self._rescaling,
            "Activation": lambda value: activated(self._activation(), value, self.name),
        }
        kind = type(self.layer).__name__
        # A layer of the user's own may have the name of one of Keras's.
        return of_kind[kind](*values) if kind in of_kind and kind not in self.custom else self._counterpart(values)

    def _rescaling(self, value: Value) -> Value:
        """Its constants are of the file's order of colours, and may be arrays."""
        if value.channel is not None:
            return self._counterpart([value])
        return rescaled(value, self.layer.scale, self.layer.offset, self.name)

    @property
    def _weights(self) -> list[Any]:
        return self.weights_of(self.layer)

    def weights_of(self, layer: Any) -> list[Any]:
        """The weights of a layer as tensors, layer by layer: they are not copied to NumPy."""
        import tensorflow as tf

        variables = layer.weights if self.generation == 3 else _layer_by_layer(layer)
        values = (one if isinstance(one, tf.Variable) else one.value for one in variables)
        return [tf.cast(one, tf.float32) for one in values]

    def reshaped(self, value: Value, shape: Sequence[int], name: str) -> Value:
        """The value in another shape, without the batch."""
        import tf_keras

        return self.applied(tf_keras.layers.Reshape(tuple(shape), name=self.name(name)), [value], [])

    def _counterpart(self, values: Sequence[Value]) -> Value:
        """The layer of the same name in tf_keras, and its activation as a layer of its own."""
        config = self._config()
        kind = type(self.layer).__name__
        inside = [one for one in ("activation", "recurrent_activation") if config.get(one) == "hard_sigmoid"]
        if inside and self.generation == 3 and kind not in _ACTIVATED and kind not in self.custom:
            raise UnsupportedLayerError(
                f"layer {self.layer.name} of kind {kind} has {inside[0]}=hard_sigmoid, which Keras 2 computes "
                "otherwise: use sigmoid, or Activation('hard_sigmoid') behind the layer"
            )
        after = "linear"
        if "activation" in config and kind in _ACTIVATED:
            after = self._activation()
            config["activation"] = after if after in _INSIDE else "linear"
        made = self._make(kind, config)
        value = self.applied(made, values, self._weights)
        return value if after in _INSIDE else activated(after, value, self.name)

    def applied(self, made: Any, values: Sequence[Value], weights: list[Any]) -> Value:
        """The output of a layer of tf_keras on `values`, with `weights`. Raises UnsupportedLayerError."""
        reverse = any(value.reverse for value in values)
        if any(value.channel is not None for value in values):
            raise UnsupportedLayerError(
                f"layer {made.name} of kind {type(made).__name__} takes a single channel of an image, which cannot be "
                "rebuilt: give it the whole image"
            )
        kind = type(made).__name__
        by_channel = kind == "BatchNormalization" or (kind == "DepthwiseConv2D" and made.depth_multiplier == 1)
        if reverse and kind not in _CHANNELWISE and kind != "Conv2D" and not by_channel:
            raise UnsupportedLayerError(
                f"the colours are swapped (RGB to BGR), by the model or by model.pixels=caffe, and then {made.name} of "
                f"kind {kind} is called: opscore takes a swap that a Conv2D follows; put one before it, or train the "
                "model on RGB"
            )
        tensors = [value.tensor for value in values]
        try:
            result = made(tensors if len(tensors) > 1 else tensors[0])
        except Exception as error:
            raise _unmade(self.layer, error) from error
        if weights:
            variables = _layer_by_layer(made)
            theirs, own = [[tuple(one.shape) for one in some] for some in (weights, variables)]
            if theirs != own:
                raise UnsupportedLayerError(
                    f"layer {made.name} of kind {kind} has weights of shapes {theirs}, which in Keras 2 are {own}: "
                    "replace it in the model"
                )
            if reverse and kind == "Conv2D":
                weights = [weights[0][:, :, ::-1], *weights[1:]]
            if reverse and by_channel:
                # A depthwise kernel has the channels as its last axis but one.
                weights = [one[..., ::-1, :] if len(one.shape) > 1 else one[::-1] for one in weights]
            for variable, weight in zip(variables, weights, strict=True):
                variable.assign(weight)
        return Value(result, reverse=reverse and kind != "Conv2D")

    def _make(self, kind: str, config: dict[str, Any]) -> Any:
        import tf_keras

        cls = self.custom.get(kind) or getattr(tf_keras.layers, kind, None)
        if cls is None:
            raise UnsupportedLayerError(
                f"layer {self.layer.name} of kind {kind} is unknown to Keras 2, with which "
                "tensorflow-model-optimization works: replace it in the model by other layers"
            )
        kept = {name: value for name, value in config.items() if name in _fields(cls)}
        if lost := [name for name in _ONLY_KERAS_3 if config.get(name) and name not in kept]:
            raise UnsupportedLayerError(
                f"layer {self.layer.name} of kind {kind} has {lost[0]}={config[lost[0]]}, which Keras 2 lacks: replace "
                "it in the model"
            )
        try:
            return cls.from_config({**kept, "name": self.name()})
        except Exception as error:
            raise _unmade(self.layer, error) from error

    def _config(self) -> dict[str, Any]:
        """The layer's configuration without what differs between the generations."""
        config = {name: _keras_2_value(value) for name, value in self.layer.get_config().items()}
        for name in config:
            # The weights follow, and zeros are drawn at once.
            if name.endswith("_initializer"):
                config[name] = "zeros"
        if "negative_slope" in config and type(self.layer).__name__ == "LeakyReLU":
            config["alpha"] = config.pop("negative_slope")
        # The layer takes the precision of the training.
        config.pop("dtype", None)
        return {**config, "trainable": True}

    def _activation(self) -> str:
        """The name of the activation, with that of Keras 3 where the generations differ."""
        function = self.layer.activation
        name = str(getattr(function, "__name__", type(function).__name__))
        if name in self.custom:
            raise UnsupportedLayerError(
                f"layer {self.layer.name} of kind {type(self.layer).__name__} has the activation {name} of "
                "model.custom_objects, which cannot be rebuilt: write it as a layer of its own"
            )
        if self.generation == 2 and name == "hard_sigmoid":
            return "hard_sigmoid of Keras 2"
        if name not in _EQUAL and name not in _COMPOSED:
            raise UnsupportedLayerError(
                f"layer {self.layer.name} of kind {type(self.layer).__name__} has the activation {name}, which has no "
                f"equal in Keras 2: use one of {', '.join(sorted({*_EQUAL, *_COMPOSED}))}"
            )
        return _EQUAL.get(name, name)

    def _separable(self, value: Value) -> Value:
        """A depthwise and a pointwise convolution: techniques know these."""
        config, layer = self._config(), self.layer
        if tuple(layer.dilation_rate) != (1, 1) and tuple(layer.strides) != (1, 1):
            return self._counterpart([value])
        depthwise = {name: config[name] for name in ("kernel_size", "strides", "padding", "depth_multiplier")}
        depthwise |= {"dilation_rate": config["dilation_rate"], "use_bias": False, "name": self.name("depthwise")}
        depthwise |= {name: config[name] for name in ("depthwise_regularizer", "depthwise_constraint")}
        pointwise = {f"kernel_{one}": config[f"pointwise_{one}"] for one in ("regularizer", "constraint")}
        pointwise |= {name: config[name] for name in ("bias_regularizer", "bias_constraint")}
        first, second, *bias = self._weights
        import tf_keras

        made = tf_keras.layers.DepthwiseConv2D(**depthwise, depthwise_initializer="zeros")
        value = self.applied(made, [value], [first])
        made = tf_keras.layers.Conv2D(
            layer.filters, 1, use_bias=layer.use_bias, kernel_initializer="zeros", name=self.name(), **pointwise
        )
        value = self.applied(made, [value], [second, *bias])
        return activated(self._activation(), value, self.name)

    def _scale_of_channels(self, value: Value) -> Value:
        """ConvNeXt's LayerScale as a depthwise convolution of one pixel, which can be trained and quantized."""
        import tf_keras

        (gamma,) = self._weights
        made = tf_keras.layers.DepthwiseConv2D(1, use_bias=False, depthwise_initializer="zeros", name=self.name())
        return self.applied(made, [value], [gamma[None, None, :, None]])

    def _scaled_sum(self, shortcut: Value, residual: Value) -> Value:
        """The shortcut and a share of the residual."""
        import tf_keras

        scaled = rescaled(residual, self.layer.scale, 0.0, lambda: self.name("scale"))
        return self.applied(tf_keras.layers.Add(name=self.name()), [shortcut, scaled], [])

    def _drop_of_images(self, value: Value) -> Value:
        import tf_keras

        rate = getattr(self.layer, "drop_path_rate", None) or self.layer.get_config()["drop_path_rate"]
        made = tf_keras.layers.Dropout(float(rate), noise_shape=(None, 1, 1, 1), name=self.name())
        return self.applied(made, [value], [])

    def _cut(self, value: Value) -> Value:
        """What RandomCrop of Keras 2 does when a model is used; in a training it would cut at random."""
        import tf_keras

        layer = self.layer
        made = tf_keras.layers.Resizing(
            layer.height, layer.width, crop_to_aspect_ratio=True, dtype="float32", name=self.name()
        )
        return self.applied(made, [value], [])

    def _normalization(self, value: Value) -> Value:
        """A scale and an offset, which are constants and no weights."""
        if getattr(self.layer, "invert", False):
            raise UnsupportedLayerError(
                f"layer {self.layer.name} of kind Normalization inverts: use Rescaling in its place"
            )
        mean, variance = (np.ravel(np.asarray(one)).astype(float) for one in (self.layer.mean, self.layer.variance))
        scale = 1 / np.maximum(np.sqrt(variance), 1e-7)
        return rescaled(value, scale, -mean * scale, self.name)


# Layers with an activation that can become a layer of its own.
_ACTIVATED = ("Conv2D", "Conv2DTranspose", "Dense", "DepthwiseConv2D")
# Layers that treat every channel alike, or for which `rescaled` cares.
_CHANNELWISE = (
    "Activation", "AveragePooling2D", "CenterCrop", "Dropout", "MaxPooling2D", "ReLU", "Rescaling", "Resizing",
    "ZeroPadding2D",
)  # fmt: skip


def _layer_by_layer(layer: Any) -> list[Any]:
    """The weights of a layer of Keras 2 in the order of Keras 3.

    Its own list has those of inner layers that are trained first, and depends on which of them are frozen.
    """
    inner = ((*part._trainable_weights, *part._non_trainable_weights) for part in layer._flatten_layers())
    # Those of a `tf.Module` or a list are in no layer's own.
    every = (*itertools.chain.from_iterable(inner), *layer.weights)
    return list({id(one): one for one in every}.values())


def _unmade(layer: Any, error: Exception) -> UnsupportedLayerError:
    reason = guard.first_line(error) or "no reason given"
    return UnsupportedLayerError(
        f"layer {layer.name} of kind {type(layer).__name__} cannot be made in Keras 2 ({type(error).__name__}: "
        f"{reason}): replace it in the model by other layers"
    )


@cache
def _fields(cls: type) -> frozenset[str]:
    """What a layer takes to be made."""
    taken = {name for base in cls.__mro__ for name in inspect.signature(base.__init__).parameters}  # type: ignore[misc]
    return frozenset(taken | {"name", "dtype", "trainable"})


def rescaled(value: Value, scale: Any, offset: Any, name: Namer) -> Value:
    """value * scale + offset, each a number, one for each channel, or of the shape of the value without the batch."""
    import tf_keras

    def ordered(one: Any) -> Any:
        array, shape = np.asarray(one, dtype=float), tuple(value.tensor.shape[1:])
        if array.size == 1:
            return float(array.reshape(()))
        if array.size == array.shape[-1] == shape[-1]:
            flat = array.reshape(-1)
            return (flat[::-1] if value.reverse else flat).tolist()
        try:
            fits = np.broadcast_shapes(array.shape, (1, *shape)) == (1, *shape)
        except ValueError:
            fits = False
        if not fits or value.reverse:
            raise UnsupportedLayerError(
                f"{name()} computes with a constant of shape {array.shape} and values of shape {shape}"
                f"{', whose colours are swapped' if value.reverse else ''}: a number, one for each channel, or values "
                "of the same shape can be rebuilt"
            )
        return np.broadcast_to(array, (1, *shape))[0].tolist()

    layer = tf_keras.layers.Rescaling(ordered(scale), offset=ordered(offset), dtype="float32", name=name())
    return Value(layer(value.tensor), reverse=value.reverse)


def activated(kind: str, value: Value, name: Namer) -> Value:
    """An activation as layers."""
    import tf_keras

    layers = tf_keras.layers
    if kind == "linear":
        return value
    if kind in ("hard_sigmoid", "hard_silu", "hard_swish"):
        # relu6(x + 3) / 6, which the converter turns into one operator.
        gate = layers.ReLU(6.0, name=name("relu6"))(rescaled(value, 1.0, 3.0, lambda: name("add_3")).tensor)
        gate = rescaled(Value(gate), 1 / 6, 0.0, lambda: name("by_6")).tensor
        tensor = gate if kind == "hard_sigmoid" else layers.Multiply(name=name())([value.tensor, gate])
        return Value(tensor, reverse=value.reverse)
    if kind == "leaky_relu":
        return Value(layers.LeakyReLU(0.2, name=name("leaky_relu"))(value.tensor), reverse=value.reverse)
    if kind == "relu6":
        return Value(layers.ReLU(6.0, name=name())(value.tensor), reverse=value.reverse)
    keras_name = "hard_sigmoid" if kind == "hard_sigmoid of Keras 2" else kind
    return Value(layers.Activation(keras_name, name=name(keras_name))(value.tensor), reverse=value.reverse)


_COMPOSED = ("hard_sigmoid", "hard_silu", "hard_swish", "leaky_relu")


def _keras_2_value(value: Any) -> Any:
    """A value of a configuration in the form of Keras 2: classes without their module."""
    if isinstance(value, dict) and "class_name" in value and "config" in value:
        # The weights follow, and an initializer of Keras 3 may have settings that Keras 2 lacks.
        if value.get("module") == "keras.initializers":
            return {"class_name": "Zeros", "config": {}}
        return {"class_name": value["class_name"], "config": value["config"]}
    return value
