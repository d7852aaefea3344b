"""Files with Keras models of both generations, and their models behind opscore's input."""

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.models.keras_file import KerasFile

SHAPE = (32, 32, 3)


def settings(path: object, **changed: Any) -> KerasFile:
    """The model of a file, as conf/model/keras_file.yaml sets it."""
    given: dict[str, Any] = {"pixels": "0..255", "input_size": None, "class_names": None, "trust": False}
    return KerasFile(**given | {"path": str(path), "custom_objects": None, "onednn": True} | changed)


def library(generation: int) -> Any:
    """Keras 3, or Keras 2 as tf_keras."""
    if generation == 2:
        import tf_keras

        return tf_keras
    import keras

    return keras


def randomized(model: Any, seed: int = 0) -> Any:
    """The model with weights of which each one, the statistics of BatchNormalization included, changes its answers."""
    random = np.random.default_rng(seed)
    for variable in model.weights:
        name, shape = getattr(variable, "path", variable.name), tuple(variable.shape)
        if "seed" in name or name.startswith("count"):
            continue
        if "variance" in name or ("gamma" in name and "layer_scale" not in name):
            variable.assign(random.uniform(0.5, 1.5, shape))
        elif len(shape) == 1:
            variable.assign(random.normal(0, 0.1, shape))
        elif len(shape) in (2, 4) and "kernel" in name and "depthwise" not in name:
            # Those of Keras are others each time, and now and then no channel is left behind a ReLU.
            variable.assign(random.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape))
    return model


def images(shape: tuple[int, ...], count: int = 4) -> np.ndarray:
    """Random uint8 pixels as float32, in which every quarter of every image has colours of its own."""
    random = np.random.default_rng(1)
    height, width, channels = shape
    quarters = random.integers(0, 200, (count, 2, 2, channels))
    large = quarters.repeat(-(-height // 2), axis=1).repeat(-(-width // 2), axis=2)[:, :height, :width]
    return (large + random.integers(0, 56, large.shape)).astype(np.uint8).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def outputs(model: Any, batch: np.ndarray) -> np.ndarray:
    """The model's outputs when it is used."""
    return np.asarray(model(batch, training=False), np.float32)


def with_even_answers(model: Any, batch: np.ndarray) -> Any:
    """The model with statistics and answers that fit the images: no signal dies out, no answer is almost certain."""
    keras = library(2 if type(model).__module__.startswith("tf_keras") else 3)
    normalizations = [layer for layer in model._flatten_layers() if type(layer).__name__ == "BatchNormalization"]
    for layer in normalizations:
        layer.momentum, layer.kept = 0.0, layer.momentum
    frozen = [layer for layer in model._flatten_layers() if not layer.trainable]
    model.trainable = True
    model(batch, training=True)
    for layer in frozen:
        layer.trainable = False
    for layer in normalizations:
        layer.momentum = layer.kept
        # A channel that hardly varies would make much of rounding errors.
        variance = np.asarray(layer.moving_variance)
        layer.moving_variance.assign(variance + variance.mean())
    dense = next(one for one in reversed(model.layers) if type(one).__name__ in ("Dense", "Conv2D"))
    kernel, _ = dense.get_weights()
    logits = outputs(keras.Model(model.inputs[0], dense.input), batch) @ kernel.reshape(kernel.shape[-2:])
    mean = logits.reshape(-1, kernel.shape[-1]).mean(axis=0)
    spread = np.abs(logits - mean).max()
    assert spread > 1e-3, "the images must not have equal answers"
    scale = 0.3 / spread
    dense.set_weights([kernel * scale, -mean * scale])
    return model


def saved(model: Any, path: Path) -> Path:
    """The file of a model."""
    model.save(path)
    return path


def agree(original: Any, built: Any, batch: np.ndarray, *, spread: float = 0.01) -> None:
    """Assert that the rebuilt network gives the probabilities of the file's model.

    spread: by which the probabilities of the images differ at least; otherwise the test would prove nothing.
    """
    want, got = outputs(original, batch), softmax(outputs(built, batch))
    assert np.ptp(want, axis=1).max() > 0.01, want
    assert np.ptp(want, axis=0).max() > spread, want
    # A deep random network makes more of a rounding error in its first layer than this; the file's own model shows it.
    own = np.abs(outputs(original, batch * np.float32(1 + 2e-7)) - want).max()
    assert own < 2e-5, own
    np.testing.assert_allclose(got, want, rtol=0, atol=max(1e-5, 2 * own))
