"""Weights from a `.keras` checkpoint, copied by layer name; duplicates of networks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tf_keras


def copy(path: Path, model: tf_keras.Model) -> None:
    """Copy the weights of the checkpoint at `path` into `model`.

    The backbone must match entirely. The head (`head_*`) is copied where its shapes are equal and otherwise
    skipped, since another dataset has another number of classes.
    Raises ValueError that names a layer that is missing, surplus or of another shape.
    """
    import tf_keras

    source = {layer.name: layer for layer in _weighted(tf_keras.models.load_model(path, compile=False))}
    target = {layer.name: layer for layer in _weighted(model)}
    _check(path, source, target)
    for name, layer in target.items():
        if name in source and _shapes(source[name]) == _shapes(layer):
            layer.set_weights(source[name].get_weights())


def duplicate(model: tf_keras.Model) -> tf_keras.Model:
    """A copy of architecture and weights that shares no layer with `model`, and has no optimizer."""
    import tf_keras

    twin = tf_keras.models.clone_model(model)
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
