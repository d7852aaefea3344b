"""Refuses code in a model file before any Keras reads the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.models.keras_format import Content, foreign_package
from pipelines.models.keras_operations import is_known, refusal

# What Keras 2 makes of functions of TensorFlow.
OPERATIONS = ("TFOpLambda", "SlicingOpLambda")


def check_safe(content: Content, *, trust: bool, custom: str | None) -> None:
    """Raise ValueError for code in the file, unless it is trusted, and for classes that are not Keras's own."""
    for layer in content.layers:
        # A function in the place of a layer is called with what the file says.
        is_function = not isinstance(layer.config, Mapping)
        if not trust and (layer.kind == "Lambda" or is_function or _has_code(layer.config)):
            raise ValueError(
                f"layer {layer.name} of {content.path} holds Python code ({layer.kind}), which could do anything on "
                "this machine: set model.trust=true if you trust whoever made the file, or replace that layer"
            )
        if not trust and layer.kind in OPERATIONS and not is_known(kind := str(layer.config.get("function"))):
            # Keras 2 calls it while it reads the file, if all its arguments are in the file.
            raise ValueError(
                f"layer {layer.name} of {content.path} must be one that opscore takes: {refusal(layer.name, kind)}"
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


def _has_code(config: Any) -> bool:
    """Whether a configuration holds a pickled function."""
    return any(
        one.get("class_name") in ("__lambda__", "Lambda") or one.get("function_type") == "lambda"
        for one in _mappings(config)
    )


def _is_foreign(config: Any) -> bool:
    """Whether a configuration names a class or a function that is not Keras's."""
    return any("class_name" in one and bool(foreign_package(one)) for one in _mappings(config))


def foreign_names(content: Content) -> set[str]:
    """The names of the classes and functions in the file that are not Keras's."""
    found = [one for one in _mappings(content.config) if "class_name" in one and foreign_package(one)]
    functions = (one.get("config") for one in found)
    return {
        function if isinstance(function, str) else str(one["class_name"]).rpartition(">")[2]
        for one, function in zip(found, functions, strict=True)
    }
