"""Operations of a functional graph that are no layers (`x / 127.5`, `keras.ops.relu(x)`) as layers of tf_keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pipelines.models.keras_layers import Namer, UnsupportedLayerError, activated, rescaled
from pipelines.models.keras_value import Value

# Names in Keras 3 (classes of `keras.ops`) and in Keras 2 (TensorFlow's functions), by what they compute.
_ARITHMETIC = {
    "add": ("Add", "__operators__.add", "math.add", "add", "nn.bias_add", "BiasAdd"),
    "subtract": ("Subtract", "math.subtract", "subtract", "__operators__.sub"),
    "multiply": ("Multiply", "math.multiply", "multiply", "__operators__.mul"),
    "divide": ("Divide", "TrueDivide", "math.truediv", "math.divide", "__operators__.truediv"),
}
_ACTIVATIONS = {
    "relu": ("Relu", "nn.relu"), "relu6": ("Relu6", "nn.relu6"), "sigmoid": ("Sigmoid", "math.sigmoid", "nn.sigmoid"),
    "tanh": ("Tanh", "math.tanh", "tanh"), "swish": ("Silu", "nn.silu", "nn.swish"), "gelu": ("Gelu", "nn.gelu"),
    "softmax": ("Softmax", "nn.softmax"), "elu": ("Elu", "nn.elu"), "hard_sigmoid": ("HardSigmoid",),
    "hard_silu": ("HardSilu",), "softplus": ("Softplus", "math.softplus"), "exponential": ("Exp", "math.exp"),
}  # fmt: skip
_NOTHING = ("Cast", "cast", "identity", "StopGradient", "stop_gradient", "ConvertToTensor", "convert_to_tensor")


def operation(op: Any, args: Any, kwargs: dict[str, Any], name: Namer) -> Value:
    """The operation as layers. args, kwargs: with values of the new graph. Raises UnsupportedLayerError."""
    kind = _kind(op)
    arguments = [*_flat(args), *_flat(list(kwargs.values()))]
    tensors: list[Value] = [one for one in arguments if isinstance(one, Value)]
    if any(one.channel is not None for one in tensors) and kind not in ("Stack", "stack"):
        raise _unknown(op)
    if kind in _NOTHING:
        return tensors[0]
    for what, kinds in _ARITHMETIC.items():
        if kind in kinds:
            return _arithmetic(what, arguments, op, name)
    for what, kinds in _ACTIVATIONS.items():
        if kind in kinds:
            _check_usual(op, kwargs, tensors[0])
            return activated(what, tensors[0], name)
    special = _SPECIAL.get(kind)
    if special is not None:
        result = special(op, tensors[0], args, kwargs, name)
        if result is not None:
            return result
    raise _unknown(op)


def _check_usual(op: Any, kwargs: dict[str, Any], value: Value) -> None:
    """Raise UnsupportedLayerError where an activation has another parameter than the layer's."""
    given = {name: kwargs.get(name, getattr(op, name, None)) for name in ("alpha", "axis", "approximate")}
    last = (None, -1, len(value.tensor.shape) - 1)
    if given["alpha"] not in (None, 1.0) or given["axis"] not in last or given["approximate"]:
        raise _unknown(op)


def _unknown(op: Any) -> UnsupportedLayerError:
    return UnsupportedLayerError(
        f"the operation {op.name} ({_kind(op)}) cannot be written as a layer: use a layer of Keras in its place, such "
        "as Rescaling, Add, Multiply, Activation, Reshape or GlobalAveragePooling2D, and save the model again"
    )


def _arithmetic(what: str, arguments: list[Any], op: Any, name: Namer) -> Value:
    import tf_keras

    operands = [one for one in arguments if isinstance(one, Value) or _is_constant(one)][:2]
    tensors = [one for one in operands if isinstance(one, Value)]
    if len(tensors) == 2 and what != "divide":
        layer = getattr(tf_keras.layers, what.capitalize())(name=name())
        if tensors[0].reverse == tensors[1].reverse:
            return Value(layer([one.tensor for one in tensors]), reverse=tensors[0].reverse)
    if len(operands) == 2 and len(tensors) == 1:
        value, first = tensors[0], isinstance(operands[0], Value)
        constant = np.asarray(operands[1] if first else operands[0], dtype=float)
        match what:
            case "add":
                return rescaled(value, 1.0, constant, name)
            case "subtract":
                return rescaled(value, 1.0, -constant, name) if first else rescaled(value, -1.0, constant, name)
            case "multiply":
                return rescaled(value, constant, 0.0, name)
            case "divide" if first:
                return rescaled(value, 1 / constant, 0.0, name)
    raise UnsupportedLayerError(
        f"the operation {op.name} ({_kind(op)}) has operands that no layer takes: use Add, Multiply or Rescaling in "
        "its place and save the model again"
    )


def _part(op: Any, value: Value, args: Any, kwargs: dict[str, Any], name: Namer) -> Value | None:  # noqa: ARG001
    """`x[:, 0]`, a token; `x[..., ::-1]`, which is RGB to BGR; and `x[..., 0]`, of which `_stacked` makes the same."""
    parts = next((one for one in [*args, *kwargs.values()] if not isinstance(one, Value)), None)
    *before, last = parts if isinstance(parts, list | tuple) else [parts]
    if (token := _token(value, [*before, last])) is not None:
        return _taken(value, token, name)
    whole = all(_is_ellipsis(one) or _slice(one) == (None, None, None) for one in before)
    # Else it is a row, or an image is cut or mirrored.
    of_channels = any(map(_is_ellipsis, before)) or len(before) == len(value.tensor.shape) - 1
    if not (whole and of_channels):
        return None
    if isinstance(last, int) and value.tensor.shape[-1] == 3:
        return Value(value.tensor, value.reverse, channel=last % 3)
    return Value(value.tensor, reverse=not value.reverse) if _slice(last) == (None, None, -1) else None


def _token(value: Value, parts: list[Any]) -> int | None:
    """The number of the one token, from 0, that is taken from (batch, tokens, channels)."""
    shape = value.tensor.shape
    if value.reverse or len(shape) != 3 or len(parts) not in (2, 3) or not isinstance(parts[1], int):
        return None
    return parts[1] % shape[1] if all(_slice(one) == (None, None, None) for one in (parts[0], *parts[2:])) else None


def _taken(value: Value, token: int, name: Namer) -> Value:
    import tf_keras

    _, tokens, channels = value.tensor.shape
    cut = tf_keras.layers.Cropping1D((token, tokens - 1 - token), name=name("token"))(value.tensor)
    return Value(tf_keras.layers.Reshape((channels,), name=name())(cut))


def _stacked(op: Any, value: Value, args: Any, kwargs: dict[str, Any], name: Namer) -> Value | None:  # noqa: ARG001
    """Three channels in the opposite order, as Keras 3 swaps colours."""
    values = [one for one in _flat(args) if isinstance(one, Value)]
    one_image = all(one.tensor is value.tensor for one in values)
    axis = getattr(op, "axis", kwargs.get("axis"))
    if not one_image or axis not in (-1, 3):
        return None
    orders = {(0, 1, 2): value.reverse, (2, 1, 0): not value.reverse}
    found = orders.get(tuple(one.channel for one in values))  # type: ignore[arg-type]
    return None if found is None else Value(value.tensor, reverse=found)


def _is_ellipsis(one: Any) -> bool:
    return one is Ellipsis or getattr(one, "__name__", one) == "..."


def _slice(one: Any) -> tuple[Any, Any, Any]:
    if isinstance(one, slice):
        return one.start, one.stop, one.step
    if isinstance(one, dict):
        return one.get("start"), one.get("stop"), one.get("step")
    return 0, 0, 0


def _pooled(op: Any, value: Value, args: Any, kwargs: dict[str, Any], name: Namer) -> Value | None:
    """The mean or the maximum over height and width, or over tokens."""
    import tf_keras

    given = {**vars(op), **kwargs}
    axis = given.get("axis") if given.get("axis") is not None else next((one for one in args[1:] if one), None)
    rank = len(value.tensor.shape)
    if axis is None or rank not in (3, 4) or sorted(one % rank for one in np.ravel(axis)) != list(range(1, rank - 1)):
        return None
    keepdims = bool(given.get("keepdims"))
    kind = f"Global{'Max' if 'ax' in _kind(op) else 'Average'}Pooling{rank - 2}D"
    layer = getattr(tf_keras.layers, kind)(keepdims=keepdims, name=name())
    return Value(layer(value.tensor), reverse=value.reverse)


def _reshaped(op: Any, value: Value, args: Any, kwargs: dict[str, Any], name: Namer) -> Value | None:
    import tf_keras

    shape = getattr(op, "newshape", None) or kwargs.get("shape") or (args[1] if len(args) > 1 else None)
    if value.reverse or shape is None or not all(isinstance(one, int | np.integer) for one in shape[1:]):
        return None
    return Value(tf_keras.layers.Reshape([int(one) for one in shape[1:]], name=name())(value.tensor))


def _patches(op: Any, value: Value, args: Any, kwargs: dict[str, Any], name: Namer) -> Value | None:  # noqa: ARG001
    """Patches that lie beside each other: (rows, columns, pixels and channels of a patch)."""
    import tf_keras

    height, width, channels = value.tensor.shape[1:]
    size, strides = tuple(op.size), tuple(np.broadcast_to(op.strides, 2))
    beside = len(size) == 2 and strides == size and set(np.ravel(op.dilation_rate)) == {1}
    if value.reverse or not beside or height % size[0] or width % size[1]:
        return None
    layers, rows, columns = tf_keras.layers, height // size[0], width // size[1]
    tensor = layers.Reshape((rows, size[0], columns, size[1] * channels), name=name("pixels"))(value.tensor)
    tensor = layers.Permute((1, 3, 2, 4), name=name("by_patch"))(tensor)
    return Value(layers.Reshape((rows, columns, size[0] * size[1] * channels), name=name())(tensor))


def _joined(op: Any, value: Value, args: Any, kwargs: dict[str, Any], name: Namer) -> Value | None:  # noqa: ARG001
    """Tensors one after the other along an axis."""
    import tf_keras

    given = args[0] if args else kwargs.get("values", kwargs.get("xs"))
    parts = _flat(given)
    values = [one for one in parts if isinstance(one, Value)]
    axis = getattr(op, "axis", kwargs.get("axis", args[1] if len(args) > 1 else None))
    if (
        len(values) < 2
        or len(values) < len(parts)
        or any(one.reverse for one in values)
        or not isinstance(axis, int)
        or axis == 0
    ):
        return None
    return Value(tf_keras.layers.Concatenate(axis, name=name())([one.tensor for one in values]))


_Special = Callable[[Any, Value, Any, dict[str, Any], Namer], Value | None]
_SPECIAL: dict[str, _Special] = {
    "GetItem": _part, "__operators__.getitem": _part, "Stack": _stacked, "stack": _stacked, "Mean": _pooled,
    "math.reduce_mean": _pooled, "Max": _pooled, "math.reduce_max": _pooled, "Reshape": _reshaped, "reshape": _reshaped,
    "ExtractPatches": _patches, "Concatenate": _joined, "concat": _joined,
}  # fmt: skip


def _kind(op: Any) -> str:
    """The operation's name: a class of Keras 3, or TensorFlow's symbol in Keras 2."""
    if type(op).__name__ in ("TFOpLambda", "SlicingOpLambda"):
        return str(op.get_config()["function"])
    return type(op).__name__


def _is_constant(one: Any) -> bool:
    return not isinstance(one, str | bool) and (isinstance(one, int | float) or hasattr(one, "dtype"))


def _flat(argument: Any) -> list[Any]:
    if isinstance(argument, list | tuple):
        # Keras 2 writes an array as nested lists.
        return [np.asarray(argument)] if _is_array(argument) else [part for one in argument for part in _flat(one)]
    return [argument]


def _is_array(argument: Any) -> bool:
    if isinstance(argument, list | tuple):
        return bool(argument) and all(map(_is_array, argument))
    return isinstance(argument, int | float) and not isinstance(argument, bool)
