"""Refuses code in a model file before any Keras reads the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.models.keras_format import Content, foreign_package

# Layers that call whatever the file names, with arguments that may all be in the file: Keras 2 does so while it reads.
_CALLS = ("__lambda__", "Lambda", "ClassMethod", "InstanceMethod", "InstanceProperty", "TensorFlowOpLayer")
# Those that call a function of TensorFlow. Of these functions nothing but the result is left.
_OPERATIONS = ("TFOpLambda", "SlicingOpLambda")
_PURE = ("__operators__.", "image.", "linalg.", "math.", "nn.")
_PURE_NAMES = frozenset(
    (
        "BiasAdd", "abs", "add", "argmax", "argmin", "boolean_mask", "broadcast_to", "cast", "clip_by_value",
        "concat", "convert_to_tensor", "cos", "cumsum", "divide", "einsum", "equal", "exp", "expand_dims",
        "fill", "floor", "gather", "gather_nd", "greater", "greater_equal", "identity", "less", "less_equal",
        "logical_and", "logical_not", "logical_or", "matmul", "maximum", "minimum", "multiply", "negative",
        "norm", "not_equal", "one_hot", "ones", "ones_like", "pad", "pow", "range", "rank", "realdiv",
        "reduce_all", "reduce_any", "reduce_logsumexp", "reduce_max", "reduce_mean", "reduce_min",
        "reduce_prod", "reduce_sum", "repeat", "reshape", "reverse", "roll", "round", "scalar_mul", "shape",
        "sigmoid", "sign", "sin", "slice", "split", "sqrt", "square", "squeeze", "stack", "stop_gradient",
        "strided_slice", "subtract", "tanh", "tensordot", "tile", "transpose", "truediv", "unstack", "where",
        "zeros", "zeros_like",
    )
)  # fmt: skip


def check_safe(content: Content, *, trust: bool, custom: str | None) -> None:
    """Raise ValueError for code in the file, unless it is trusted, and for classes that are not Keras's own."""
    for layer in content.layers:
        if not trust and has_code({"class_name": layer.kind, "config": layer.config, "inbound_nodes": ()}):
            raise ValueError(
                f"layer {layer.name} of {content.path} holds Python code ({layer.kind}), which could do anything on "
                "this machine: set model.trust=true if you trust whoever made the file, or replace that layer"
            )
        if custom is None and (layer.package or _is_foreign(layer.config)):
            raise ValueError(
                f"layer {layer.name} of {content.path} is of your own class {layer.kind}, or has a function of your "
                "own: set model.custom_objects to the module that defines it, for example "
                "model.custom_objects=my_package.my_layers"
            )


def _mappings(config: Any) -> Iterator[Mapping[str, Any]]:
    """All dictionaries of a configuration, at whatever depth."""
    if isinstance(config, Mapping):
        yield config
    if isinstance(config, Mapping | list):
        for value in config.values() if isinstance(config, Mapping) else config:
            yield from _mappings(value)


def has_code(config: Any) -> bool:
    """Whether a configuration holds a pickled function, or a call of what may do more than compute."""
    return any(
        _kind(one) in _CALLS
        or one.get("function_type") == "lambda"
        # A function in the place of a layer.
        or ("inbound_nodes" in one and "class_name" in one and not isinstance(one.get("config"), Mapping))
        or (_kind(one) in _OPERATIONS and not _is_pure(one.get("config")))
        for one in _mappings(config)
    )


def _kind(entry: Mapping[str, Any]) -> str:
    """The class of a layer, without the package under which it is registered."""
    return str(entry.get("class_name")).replace(">", ".").rpartition(".")[2]


def _is_pure(operation: Any) -> bool:
    function = str(operation.get("function")) if isinstance(operation, Mapping) else ""
    return function.startswith(_PURE) or function in _PURE_NAMES


def _is_foreign(config: Any) -> bool:
    """Whether a configuration names a class or a function that is not Keras's."""
    return any("class_name" in one and bool(foreign_package(one)) for one in _mappings(config))


def has_foreign_function(config: Any) -> bool:
    """Whether a configuration names a function that is not Keras's."""
    return any(one.get("class_name") == "function" and bool(foreign_package(one)) for one in _mappings(config))


def foreign_names(content: Content) -> set[str]:
    """The names of the classes and functions in the file that are not Keras's."""
    found = [one for one in _mappings(content.config) if "class_name" in one and foreign_package(one)]
    functions = (one.get("config") for one in found)
    return {
        function if isinstance(function, str) else str(one["class_name"]).rpartition(">")[2]
        for one, function in zip(found, functions, strict=True)
    }
