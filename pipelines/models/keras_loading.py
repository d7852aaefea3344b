"""Loads a model file with the Keras that wrote it, for `keras_graph` to rebuild."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from pipelines.models import custom_objects as own_module
from pipelines.models import keras_safety
from pipelines.models.keras_format import Content
from pipelines.system import guard


@contextlib.contextmanager
def loaded(content: Content, *, trust: bool, custom_objects: str | None) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The model, whose weights may be read in this context only, and the user's own classes for tf_keras by name.

    Raises ValueError where Keras cannot read the file. trust: let code in the file run.
    """
    custom = register(custom_objects) if custom_objects else {}
    package, keras = ("tf-keras", _keras_2()) if content.generation == 2 else ("keras", _keras_3())
    own = custom if content.generation == 2 else _of_keras_3(custom_objects, content)
    _check_complete(own, custom_objects, content)
    with contextlib.ExitStack() as context, warnings.catch_warnings():
        # It builds layers of one's own by calling them.
        warnings.filterwarnings("ignore", message=r"`build\(\)` was called on layer")
        path = context.enter_context(_by_its_content(content))
        try:
            if content.generation == 3 and content.suffix == ".keras":
                model = _from_parts(content, own, context, trust=trust)
            else:
                model = keras.saving.load_model(path, custom_objects=own, compile=False, safe_mode=not trust)
        except Exception as error:
            installed = metadata.version(package)
            if _numbers(content.version) > _numbers(installed):
                raise ValueError(
                    f"model.path must be readable by the installed Keras {installed}, got {content.path}, which Keras "
                    f"{content.version} wrote: pip install '{package}>={content.version}'"
                ) from error
            reason = guard.first_line(error) or "no reason given"
            raise ValueError(
                f"model.path must be readable by Keras {installed}, got {content.path} of Keras {content.version} "
                f"({type(error).__name__}: {reason}): if a layer is of your own class, set model.custom_objects; else "
                "load the model where it was built, and save it again"
            ) from error
        yield model, custom


def _of_keras_3(module: str | None, content: Content) -> dict[str, Any]:
    """The objects of the user's module as they stand. Raises ValueError where a layer is of Keras 2."""
    own = _objects(importlib.import_module(module)) if module else {}
    if others := [name for name, one in own.items() if _is_layer_of_keras_2(one)]:
        raise ValueError(
            f"model.custom_objects must define layers of Keras 3 for {content.path}, got {others[0]} in {module}, "
            "which is of tf.keras, here that of Keras 2: write `import keras` in the module, and keras.layers in the "
            "place of tf.keras.layers"
        )
    return own


def _check_complete(own: Mapping[str, Any], module: str | None, content: Content) -> None:
    """Raise ValueError where the file names an object that the user's module lacks: Keras would import its module."""
    missing = sorted(keras_safety.foreign_names(content) - set(own))
    if missing:
        elsewhere = _defined_in(module, missing[0])
        mend = "add it there" if elsewhere is None else f"set model.custom_objects={elsewhere}, which it imports"
        raise ValueError(
            f"model.custom_objects must be a module that defines {', '.join(missing)}, which {content.path} uses, got "
            f"{module}: {mend}"
        )


def _from_parts(content: Content, custom: dict[str, Any], context: contextlib.ExitStack, *, trust: bool) -> Any:
    """The model of a Keras 3 archive, as `load_model` makes it, but for its variables.

    They are never made; the scope that is entered in `context` has their values.
    """
    keras = _keras_3()
    context.enter_context(keras.StatelessScope(initialize_variables=False))
    config = _with_zeros(content.config)
    model = keras.saving.deserialize_keras_object(config, custom_objects=custom, safe_mode=not trust)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(content.path) as archive:
        model.load_weights(archive.extract("model.weights.h5", folder))
    return model


def _with_zeros(config: Any) -> Any:
    """A copy of a configuration whose weights start as zeros."""
    if isinstance(config, Mapping):
        zeros: dict[str, Any] = {
            "module": "keras.initializers",
            "class_name": "Zeros",
            "config": {},
            "registered_name": None,
        }
        return {
            key: zeros if key.endswith("_initializer") and value else _with_zeros(value)
            for key, value in config.items()
        }
    return [_with_zeros(one) for one in config] if isinstance(config, list) else config


@cache
def register(module: str) -> dict[str, Any]:
    """The classes of the user's module, made for tf_keras, by name; tf_keras then finds them in checkpoints too.

    A module that imports Keras 3 is imported once more with tf_keras in its place.
    """
    import tf_keras

    spec = own_module.find(module)
    assert spec.loader is not None
    with _tf_keras_as_keras():
        twin = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(twin)
        except Exception as error:
            raise ValueError(
                f"model.custom_objects must be a module that can be imported with Keras 2 in the place of Keras 3, got "
                f"{module} ({type(error).__name__}: {guard.first_line(error)}): let it use keras.ops, tensorflow, "
                "and layers that both have"
            ) from error
    found = _objects(twin)
    for name, cls in found.items():
        tf_keras.utils.get_custom_objects().update({name: cls, f"{module.partition('.')[0]}>{name}": cls})
    return found


def _defined_in(module: str | None, name: str) -> str | None:
    """The module that a name of an imported module is from; None where it lacks the name, or has it of its own."""
    found = getattr(sys.modules.get(module or ""), name, None)
    place = getattr(found, "__module__", module)
    return None if place == module or found is None else str(place)


def _is_layer_of_keras_2(one: Any) -> bool:
    return inspect.isclass(one) and issubclass(one, _keras_2().layers.Layer)


def _objects(module: Any) -> dict[str, Any]:
    """The classes and functions that a module defines, by name."""
    kinds = (one for one in vars(module).items() if inspect.isclass(one[1]) or inspect.isfunction(one[1]))
    return {name: one for name, one in kinds if one.__module__ == module.__name__}


def _keras_2() -> Any:
    import tf_keras

    return tf_keras


def _keras_3() -> Any:
    # Whatever the file was trained with: the rebuild is for TensorFlow.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    return keras


@contextlib.contextmanager
def _by_its_content(content: Content) -> Iterator[str]:
    """A path with the ending by which Keras chooses how to read."""
    if content.path.suffix == content.suffix:
        yield str(content.path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"model{content.suffix}"
        link.symlink_to(content.path.absolute())
        yield str(link)


@contextlib.contextmanager
def _tf_keras_as_keras() -> Iterator[None]:
    import tf_keras

    keras = _keras_3()
    modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "keras"}
    for name in modules:
        del sys.modules[name]
    parts = ("layers", "saving", "utils", "activations", "initializers", "regularizers", "constraints", "models")
    stand_in = ModuleType("keras")
    vars(stand_in).update(vars(tf_keras) | {"Layer": tf_keras.layers.Layer})
    # These compute with tensors of TensorFlow wherever they come from.
    vars(stand_in).update(ops=keras.ops, random=keras.random)
    sys.modules["keras"] = stand_in
    for part in (*parts, "ops", "random"):
        sys.modules[f"keras.{part}"] = getattr(stand_in, part)
    sys.modules.update({name: one for name, one in modules.items() if name.startswith(("keras.ops.", "keras.random."))})
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "keras"]:
            del sys.modules[name]
        sys.modules.update(modules)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int("".join(filter(str.isdigit, part)) or 0) for part in version.split(".")[:3])
