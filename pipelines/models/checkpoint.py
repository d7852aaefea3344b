"""Networks and weights from a `.keras` checkpoint, and duplicates of networks."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.models import keras_safety

if TYPE_CHECKING:
    import tf_keras


# The last layer of opscore's networks.
LOGITS = "head_logits"
# In a `.keras` archive.
_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"


def is_whole(path: Path) -> bool:
    """Whether a file is an archive with all parts of a checkpoint. Loads no TensorFlow."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {_CONFIG, _WEIGHTS} <= set(archive.namelist())


def is_own(path: Path) -> bool:
    """Whether a whole archive is a checkpoint that opscore wrote: of Keras 2, with opscore's head. Loads no TensorFlow.

    An application of Keras's own may have the same layers, and take other pixels. A file that could run code on this
    machine is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            metadata, config = (json.loads(archive.read(name)) for name in ("metadata.json", _CONFIG))
        names = {layer["config"]["name"] for layer in config["config"]["layers"]}
    except (KeyError, TypeError, ValueError):
        return False
    # Of which a checkpoint is not compiled.
    config.pop("compile_config", None)
    runs = keras_safety.has_code(config) or keras_safety.has_foreign_function(config)
    return str(metadata.get("keras_version")).startswith("2") and LOGITS in names and not runs


def load(path: Path) -> tf_keras.Model:
    """The network of a checkpoint, not compiled: what `tf_keras.models.load_model` gives, in a fraction of the time.

    That reads the weights inside the archive, in which each step back in the file begins at its start again.
    """
    import tf_keras

    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read(_CONFIG)) | {"compile_config": None}
        network = tf_keras.saving.deserialize_keras_object(config)
        network.load_weights(archive.extract(_WEIGHTS, folder))
    return network


def copy(path: Path, model: tf_keras.Model) -> None:
    """Copy the weights of the checkpoint at `path` into `model`.

    The backbone must match entirely. The head (`head_*`) is copied where its shapes are equal and otherwise
    skipped, since another dataset has another number of classes.
    Raises ValueError that names a layer that is missing, surplus or of another shape.
    """
    source = {layer.name: layer for layer in _weighted(load(path))}
    target = {layer.name: layer for layer in _weighted(model)}
    _check(path, source, target)
    for name, layer in target.items():
        if name in source and _shapes(source[name]) == _shapes(layer):
            layer.set_weights(source[name].get_weights())


def in_half_precision(network: Any) -> bool:
    """Whether a layer computes in float16 or bfloat16. network: of either Keras."""
    layers = network._flatten_layers()
    return any(str(getattr(layer, "compute_dtype", "")) in ("float16", "bfloat16") for layer in layers)


def as_float32(network: tf_keras.Model) -> tf_keras.Model:
    """The network with every layer computing in float32: half precision serves training only."""
    if not in_half_precision(network):
        return network

    def in_float32(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    return duplicate(network, in_float32)


def duplicate(model: tf_keras.Model, of_layer: Callable[[Any], Any] | None = None) -> tf_keras.Model:
    """A copy of architecture and weights that shares no layer with `model`, and has no optimizer.

    of_layer: makes the layer in the place of one; None copies it.
    """
    import tf_keras

    twin = tf_keras.models.clone_model(model, clone_function=of_layer)
    twin.set_weights(model.get_weights())
    return twin


def _check(path: Path, source: dict[str, tf_keras.layers.Layer], target: dict[str, tf_keras.layers.Layer]) -> None:
    mend = "set model.weights to a checkpoint of the same model"
    for name in (*target, *source):
        if name.startswith("head_"):
            continue
        if name not in source or name not in target:
            lacking = "the checkpoint" if name not in source else "the model"
            raise ValueError(f"{path} must hold the model's own layers, but {lacking} has no layer {name}: {mend}")
        if _shapes(source[name]) != _shapes(target[name]):
            raise ValueError(
                f"layer {name} must have weights of shapes {_shapes(target[name])}, "
                f"got {_shapes(source[name])} in {path}: {mend}"
            )


def _weighted(model: tf_keras.Model) -> list[tf_keras.layers.Layer]:
    return [layer for layer in model.layers if layer.weights]


def _shapes(layer: tf_keras.layers.Layer) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]
