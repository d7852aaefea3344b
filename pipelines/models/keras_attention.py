"""Attention with several heads as plain layers: its projections are dense layers, which every technique takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.models.keras_layers import Maker, UnsupportedLayerError
from pipelines.models.keras_value import Value

# Of a call, in the order of Keras.
_INPUTS = ("query", "value", "key")
# What is rebuilt, and what changes no answer.
_SETTINGS = (
    "activity_regularizer", "attention_axes", "bias_constraint", "bias_initializer", "bias_regularizer", "dropout",
    "dtype", "flash_attention", "kernel_constraint", "kernel_initializer", "kernel_regularizer", "key_dim", "key_shape",
    "name", "num_heads", "output_shape", "query_shape", "seed", "trainable", "use_bias", "value_dim", "value_shape",
)  # fmt: skip


def attention(make: Maker, args: Sequence[Any], kwargs: dict[str, Any]) -> Value:
    """The output of a MultiHeadAttention on values of the new graph, (batch, ..., tokens, channels).

    args, kwargs: of its call. Raises UnsupportedLayerError where it has masks, gives its scores too, or attends along
    other axes than all between batch and channels, or the last of these.
    """
    if more := [name for name, one in make.layer.get_config().items() if one and name not in _SETTINGS]:
        raise _unknown(make.layer, f"has {more[0]}={make.layer.get_config()[more[0]]}")
    query, value, key = _inputs(make.layer, args, kwargs)
    if any(one.reverse or one.channel is not None for one in (query, value, key)):
        raise _unknown(make.layer, "takes swapped or single colours of an image")
    shape = tuple(query.tensor.shape[1:])
    axes = tuple(make.layer._attention_axes)
    if axes == tuple(range(1, len(shape))):
        # Often all three are one tensor.
        tokens = {id(one): _as_tokens(make, one) for one in (query, value, key)}
        query, value, key = (tokens[id(one)] for one in (query, value, key))
    elif axes != (len(shape) - 1,):
        raise _unknown(make.layer, f"has attention_axes={axes}")
    heads = _Heads(make=make, number=int(make.layer._num_heads))
    # Half of the scale 1 / sqrt(channels) each, so that the fine-tuning of neither kernel takes larger steps.
    scale = float(make.layer._key_dim) ** -0.25
    queries, keys, values = (
        heads.split(one, getattr(make.layer, f"_{name}_dense"), name, factor)
        for one, name, factor in ((query, "query", scale), (key, "key", scale), (value, "value", 1.0))
    )
    result = heads.joined(heads.attended(queries, values, keys))
    if len(shape) != len(query.tensor.shape) - 1:
        result = make.reshaped(result, (*shape[:-1], result.tensor.shape[-1]), "places")
    return result


@dataclass(frozen=True, kw_only=True)
class _Heads:
    """Puts the heads of an attention before its tokens and behind them again."""

    make: Maker
    number: int

    def split(self, value: Value, projection: Any, name: str, scale: float) -> Value:
        """(..., tokens, channels) as (..., heads, tokens, channels of a head), projected by a dense layer."""
        kernel, *bias = (scale * one for one in self.make.weights_of(projection))
        weights = [_flat(kernel, first=1), *(_flat(one, first=0) for one in bias)]
        value = self._dense(value, weights, name)
        *places, channels = value.tensor.shape[1:]
        value = self.make.reshaped(value, (*places, self.number, channels // self.number), f"{name}_heads")
        return self._exchanged(value, f"{name}_by_head")

    def attended(self, query: Value, value: Value, key: Value) -> Value:
        """softmax(query key') value, for each head."""
        import tf_keras

        made = tf_keras.layers.Attention(dropout=float(self.make.layer._dropout), name=self.make.name())
        return self.make.applied(made, [query, value, key], [])

    def joined(self, value: Value) -> Value:
        """(..., heads, tokens, channels of a head) as (..., tokens, channels), by the last dense layer."""
        value = self._exchanged(value, "by_token")
        *places, heads, channels = value.tensor.shape[1:]
        value = self.make.reshaped(value, (*places, heads * channels), "joined")
        kernel, *bias = self.make.weights_of(self.make.layer._output_dense)
        if len(kernel.shape) != 3:
            raise _unknown(self.make.layer, f"has an output_shape of {len(kernel.shape) - 2} axes")
        return self._dense(value, [_flat(kernel, first=0, last=1), *bias], "output")

    def _dense(self, value: Value, weights: list[Any], name: str) -> Value:
        import tf_keras

        units, biased = int(weights[0].shape[-1]), len(weights) > 1
        made = tf_keras.layers.Dense(units, use_bias=biased, kernel_initializer="zeros", name=self.make.name(name))
        return self.make.applied(made, [value], weights)

    def _exchanged(self, value: Value, name: str) -> Value:
        """With the last two axes before the channels in the opposite order."""
        import tf_keras

        rank = len(value.tensor.shape)
        order = (*range(1, rank - 3), rank - 2, rank - 3, rank - 1)
        return self.make.applied(tf_keras.layers.Permute(order, name=self.make.name(name)), [value], [])


def _inputs(layer: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Value]:
    given = dict(zip(_INPUTS, args, strict=False)) | kwargs
    # Without a key of its own, the value is the key.
    given["key"] = given["value"] if given.get("key") is None else given["key"]
    more = [name for name, one in given.items() if name not in _INPUTS and one is not None and one is not False]
    if more or len(args) > len(_INPUTS):
        raise _unknown(layer, f"is called with {more[0] if more else 'a mask'}")
    return [given[name] for name in _INPUTS]


def _as_tokens(make: Maker, value: Value) -> Value:
    """All places of a value, (batch, places, channels)."""
    *places, channels = value.tensor.shape[1:]
    return value if len(places) == 1 else make.reshaped(value, (math.prod(places), channels), "tokens")


def _flat(weight: Any, *, first: int, last: int = 0) -> Any:
    """A weight whose axes from number `first` on, but for the last ones, are one."""
    import tensorflow as tf

    shape = tuple(weight.shape)
    end = len(shape) - last
    return tf.reshape(weight, (*shape[:first], math.prod(shape[first:end]), *shape[end:]))


def _unknown(layer: Any, what: str) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"layer {layer.name} of kind MultiHeadAttention {what}, which cannot be rebuilt: let it attend to all tokens, "
        "without masks, and give one output"
    )
