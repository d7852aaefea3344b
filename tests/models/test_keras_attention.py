"""Networks with attention, and with layers of one's own that compute with keras.ops."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.execution import export
from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.kernels import kernels
from pipelines.models import channels, complexity, patches
from pipelines.techniques.base import Candidate
from tests.conftest import small_data
from tests.models.keras_files import SHAPE, agree, images, library, randomized, saved, settings, with_even_answers

TOKENS, CHANNELS = 64, 24
# The layers of Keras's example of a vision transformer; TensorFlow 2's version of it cuts images by tf.image.
OWN = """
import keras
from keras import layers, ops
import tensorflow as tf

class Patches(layers.Layer):
    def __init__(self, patch_size, **given):
        super().__init__(**given)
        self.patch_size = patch_size

    def call(self, images):
        batch, height, width, channels = ops.shape(images)
        size = self.patch_size
        patches = keras.ops.image.extract_patches(images, size=size)
        return ops.reshape(patches, (batch, -1, size * size * channels))

    def get_config(self):
        return {**super().get_config(), "patch_size": self.patch_size}

class OldPatches(Patches):
    def call(self, images):
        size = self.patch_size
        sides = [1, size, size, 1]
        patches = tf.image.extract_patches(
            images=images, sizes=sides, strides=sides, rates=[1, 1, 1, 1], padding="VALID"
        )
        return tf.reshape(patches, [tf.shape(images)[0], -1, patches.shape[-1]])

class PatchEncoder(layers.Layer):
    def __init__(self, patches, channels, **given):
        super().__init__(**given)
        self.patches, self.channels = patches, channels
        self.projection = layers.Dense(channels)
        self.position = layers.Embedding(patches, channels)

    def call(self, patch):
        return self.projection(patch) + self.position(ops.expand_dims(ops.arange(self.patches), axis=0))

    def get_config(self):
        return {**super().get_config(), "patches": self.patches, "channels": self.channels}
"""


def network(keras: Any, tokens: Callable[[Any, Any], Any], attend: Callable[[Any, Any], Any], pool: str) -> Any:
    """A block of a transformer between the tokens of an image and its answers."""
    layers = keras.layers
    image = keras.Input(SHAPE)
    x = tokens(layers, layers.Rescaling(1 / 255)(image))
    x = layers.Add()([x, attend(layers, layers.LayerNormalization()(x))])
    hidden = layers.Dense(2 * CHANNELS, activation="gelu", name="hidden")(layers.LayerNormalization()(x))
    x = layers.Add()([x, layers.Dense(CHANNELS)(hidden)])
    return keras.Model(image, layers.Dense(10, activation="softmax")(getattr(layers, pool)()(x)))


def of_places(layers: Any, x: Any) -> Any:
    return layers.Conv2D(CHANNELS, 4, strides=4)(x)


def of_tokens(layers: Any, x: Any) -> Any:
    return layers.Reshape((TOKENS, CHANNELS))(of_places(layers, x))


def to_itself(layers: Any, x: Any) -> Any:
    return layers.MultiHeadAttention(3, 8, dropout=0.1, name="attend")(x, x)


def built_like(model: Any, path: Path, **changed: Any) -> Any:
    """The network of the model's file, which answers as the model."""
    with_even_answers(randomized(model), images(SHAPE))
    file = settings(saved(model, path), **changed)
    file.preflight(SHAPE)
    built = file.build(SHAPE, 10)
    agree(model, built, images(SHAPE))
    return built


def exported(network: Any, path: Path) -> ExportedModel:
    data, _ = small_data()
    export.export(Candidate(model=network), data, path)
    return ExportedModel(path)


@pytest.mark.parametrize("generation", [2, 3])
@pytest.mark.parametrize(
    ("tokens", "attend", "pool"),
    [
        (of_tokens, to_itself, "GlobalAveragePooling1D"),
        (
            of_tokens,
            lambda layers, x: layers.MultiHeadAttention(2, 8, value_dim=5, use_bias=False, output_shape=CHANNELS)(
                query=x, value=layers.Dense(7)(layers.MaxPooling1D(4)(x)), return_attention_scores=False
            ),
            "Flatten",
        ),
        (of_tokens, lambda layers, x: layers.MultiHeadAttention(2, 8)(x, x, layers.Dense(9)(x)), "Flatten"),
        (of_places, to_itself, "GlobalAveragePooling2D"),
        (
            of_places,
            lambda layers, x: layers.MultiHeadAttention(2, 8, attention_axes=(2,))(x, x),
            "GlobalAveragePooling2D",
        ),
    ],
    ids=["itself", "other tokens", "key", "both axes", "one axis"],
)
def test_attention_answers_as_its_file(
    generation: int, tokens: Callable, attend: Callable, pool: str, tmp_path: Path
) -> None:
    built = built_like(network(library(generation), tokens, attend, pool), tmp_path / "model.keras")
    names = [layer.name for layer in built.layers]
    assert names[-1] == "head_logits" and names[-2] == "head_pool"


def test_projections_of_attention_are_dense_layers(tmp_path: Path) -> None:
    built = built_like(network(library(3), of_tokens, to_itself, "GlobalAveragePooling1D"), tmp_path / "model.keras")
    dense = [layer.name for layer in built.layers if type(layer).__name__ == "Dense"]
    assert dense[:4] == ["attend_query", "attend_value", "attend_key", "attend_output"]
    # Four projections, two layers of 48 hidden channels, the patches and the answers; and each token with each.
    products = TOKENS * (4 * CHANNELS**2 + 2 * 2 * CHANNELS**2 + 4 * 4 * 3 * CHANNELS) + 10 * CHANNELS
    assert complexity.macs(built) == products + 2 * TOKENS**2 * CHANNELS
    # A head's channels belong together; hidden ones can be removed.
    assert list(channels.groups(built).producers.values()) == [("hidden",)]


@pytest.mark.parametrize(
    ("called", "message"),
    [
        ({"use_causal_mask": True}, "attend of kind MultiHeadAttention is called with use_causal_mask"),
        ({"attention_mask": np.ones((1, TOKENS, TOKENS), bool)}, "is called with attention_mask"),
        ({"return_attention_scores": True}, "is called with return_attention_scores"),
        ({}, "attend of kind MultiHeadAttention has use_gate=True"),
    ],
)
def test_attention_of_another_kind_is_refused(called: dict[str, Any], message: str, tmp_path: Path) -> None:
    def attend(layers: Any, x: Any) -> Any:
        found = layers.MultiHeadAttention(3, 8, use_gate=not called, name="attend")(x, x, **called)
        return found[0] if isinstance(found, Sequence) else found

    model = network(library(3), of_tokens, attend, "Flatten")
    with pytest.raises(ValueError, match=message):
        settings(saved(model, tmp_path / "model.keras")).build(SHAPE, 10)


def test_positions_and_patches_and_a_token_without_own_layers(tmp_path: Path) -> None:
    keras = library(3)
    layers, ops = keras.layers, keras.ops
    image = keras.Input(SHAPE)
    x = ops.reshape(ops.image.extract_patches(image / 255.0, 4), (-1, TOKENS, 48))
    x = layers.Dense(CHANNELS)(x) + layers.Embedding(TOKENS, CHANNELS)(ops.arange(TOKENS))
    x = x + to_itself(layers, x)
    pooled = ops.concatenate([x[:, 0], x[:, -1, :], ops.mean(x, axis=1)], axis=-1)
    built = built_like(keras.Model(image, layers.Dense(10, activation="softmax")(pooled)), tmp_path / "model.keras")
    batch = images(SHAPE)
    np.testing.assert_allclose(
        exported(built, tmp_path / "model.tflite").logits(batch.astype(np.uint8)),
        np.asarray(built(batch)),
        atol=1e-4,
    )


@pytest.mark.parametrize("generation", [2, 3])
def test_constant_of_another_axis_is_no_factor_of_channels(generation: int, tmp_path: Path) -> None:
    """One number for each row of 24 rows and 24 channels."""
    keras = library(generation)
    layers = keras.layers
    image = keras.Input((CHANNELS, CHANNELS, 3))
    x = layers.Conv2D(CHANNELS, 3, padding="same")(image) * np.linspace(0, 1, CHANNELS, dtype=np.float32)[:, None, None]
    model = keras.Model(image, layers.Dense(10, activation="softmax")(layers.Flatten()(x)))
    shape = (CHANNELS, CHANNELS, 3)
    with_even_answers(randomized(model), images(shape))
    agree(model, settings(saved(model, tmp_path / "model.keras")).build(shape, 10), images(shape))


@pytest.mark.parametrize("kind", ["Patches", "OldPatches"])
def test_own_layers_with_operations_of_keras_3(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = f"own_{kind.lower()}"
    (tmp_path / f"{module}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    own = __import__(module)
    model = network(
        library(3),
        lambda _, x: own.PatchEncoder(TOKENS, CHANNELS)(getattr(own, kind)(4)(x)),
        to_itself,
        "GlobalAveragePooling1D",
    )
    built = built_like(model, tmp_path / "model.keras", custom_objects=module)
    batch, file = images(SHAPE), exported(built, tmp_path / "model.tflite")
    np.testing.assert_allclose(file.logits(batch.astype(np.uint8)), np.asarray(built(batch)), atol=1e-4)
    # Patches need no kernel of ones and zeros, which 8 bits would round.
    assert (48, 4, 4, 3) not in {kernel.values.shape for kernel in kernels(file.path)}
    # The one of the projection is inside a layer of one's own, and no technique changes it.
    assert not complexity.counts_all(built)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "strides", "rate"), [(4, 4, 1), ((3, 5), (3, 5), 1), (3, 2, 1), (2, 1, 2)])
def test_patches_by_builtin_operators_are_the_same(size: Any, strides: Any, rate: int, padding: str) -> None:
    import keras
    import tensorflow as tf

    def cut() -> list[np.ndarray]:
        image = keras.ops.image
        height, width = np.broadcast_to(size, 2)
        down, right = np.broadcast_to(strides, 2)
        return [
            np.asarray(image.extract_patches(batch, size, strides, rate, padding)),
            np.asarray(
                tf.image.extract_patches(
                    batch, [1, height, width, 1], [1, down, right, 1], [1, rate, rate, 1], padding.upper()
                )
            ),
        ]

    batch = images((20, 24, 3))
    want = cut()
    functions = [tf.image.extract_patches, keras.ops.image.extract_patches]
    with patches.by_builtin_operators():
        assert [tf.image.extract_patches, keras.ops.image.extract_patches] != functions
        got = cut()
    assert [tf.image.extract_patches, keras.ops.image.extract_patches] == functions
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


def test_patches_that_overlap_are_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_overlapping.py").write_text(OWN.replace("size=size)", "size=size, strides=2, padding='same')"))
    monkeypatch.syspath_prepend(tmp_path)
    own, keras = __import__("own_overlapping"), library(3)
    image = keras.Input(SHAPE)
    # Half of the strides, so four times as many patches as the layer counts.
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Reshape((-1, 48))(own.Patches(4)(image)))
    model = keras.Model(image, keras.layers.Dense(10, activation="softmax")(x))
    built = built_like(model, tmp_path / "model.keras", custom_objects="own_overlapping")
    batch = images(SHAPE)
    got = exported(built, tmp_path / "model.tflite").logits(batch.astype(np.uint8))
    np.testing.assert_allclose(got, np.asarray(built(batch)), atol=1e-4)
