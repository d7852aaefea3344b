"""What a transfer trains and what it leaves alone, with features computed once and without."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.models.small_cnn import SmallCNN
from pipelines.models.vgg import VGG
from pipelines.techniques.base import Candidate, Context, EffectError
from pipelines.techniques.folding import mirror
from pipelines.techniques.transfer import Transfer, _inference, _top_blocks, _Trained
from pipelines.training import precision
from pipelines.training.convolutions import quick_convolutions
from pipelines.training.trainer import Trainer
from tests.cells.test_config import composed
from tests.conftest import SMALL_CNN, context, move_weights, small_data, with_trainer


def transfer(**changed: Any) -> Transfer:
    fields: dict[str, Any] = {
        "epochs": 1,
        "learning_rate": 1e-3,
        "unfreeze_blocks": 0,
        "unfreeze_epochs": 1,
        "unfreeze_learning_rate": 1e-3,
    }
    return Transfer(**fields | changed)


def pretrained(trained: Candidate, folder: Path) -> Candidate:
    """A network with a trained backbone and a fresh head for another number of classes."""
    data, _ = small_data()
    trained.model.save(folder / "pretrained.keras")
    model = SmallCNN(width=32, weights=str(folder / "pretrained.keras"), input_size=None, dropout=0.2, onednn=True)
    built = model.build(data.image_shape, 10)
    head = built.get_layer("head_logits")
    head.set_weights([0.05 * np.sin(np.arange(head.kernel.shape.num_elements())).reshape(head.kernel.shape), head.bias])
    return Candidate(model=built)


def moved(candidate: Candidate, before: dict[str, list[np.ndarray]]) -> set[str]:
    return {
        layer.name
        for layer in candidate.model.layers
        if any(not np.array_equal(a, b) for a, b in zip(layer.get_weights(), before[layer.name], strict=True))
    }


def weights(candidate: Candidate) -> dict[str, list[np.ndarray]]:
    return {layer.name: layer.get_weights() for layer in candidate.model.layers}


def augmented(it: Context) -> Context:
    old = it.trainer
    dataset = dataclasses.replace(old.dataset, max_shift=1)
    trainer = Trainer(settings=old.settings, data=old.data, dataset=dataset, seed=0, on_epoch=old.on_epoch)
    return dataclasses.replace(it, trainer=trainer)


@pytest.mark.slow
@pytest.mark.parametrize("augment", [False, True], ids=["features", "through"])
def test_only_the_head_is_trained(augment: bool, trained: Candidate, tmp_path: Path) -> None:
    candidate = pretrained(trained, tmp_path)
    before = weights(candidate)
    it = augmented(context(3)) if augment else context(3)
    done = transfer(epochs=3).apply(candidate, it)
    assert moved(done, before) == {"head_logits"}
    assert all(layer.trainable for layer in done.model.layers)
    assert len(it.trainer.epochs) == 3
    assert it.trainer.epochs[-1]["loss"] < it.trainer.epochs[0]["loss"]


@pytest.mark.slow
def test_features_train_the_same_head_as_full_fitting(trained: Candidate, tmp_path: Path) -> None:
    """Without dropout, which draws its numbers, the two ways differ by rounding only."""
    by_features, through = pretrained(trained, tmp_path), pretrained(trained, tmp_path)
    by_features.model.get_layer("head_dropout").rate = through.model.get_layer("head_dropout").rate = 0.0
    transfer(epochs=4).apply(by_features, context(4))
    for layer in through.model.layers:
        layer.trainable = layer.name.startswith("head_")
    context(4).trainer.fit(through.model, learning_rate=1e-3)
    for ours, theirs in zip(
        by_features.model.get_layer("head_logits").get_weights(),
        through.model.get_layer("head_logits").get_weights(),
        strict=True,
    ):
        assert np.allclose(ours, theirs, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["small_cnn", "resnet50", "efficientnet_b0", "mobilenet_v2"])
def test_extracted_features_equal_those_of_keras(model: str) -> None:
    """With statistics as training leaves them; a fresh normalization would hide what folding does wrong."""
    import tensorflow as tf
    import tf_keras

    data, _ = small_data()
    wanted = composed(f"model={model}", "model.weights=null", "model.input_size=32", "technique=baseline").model
    built = wanted.build(data.image_shape, 10)
    draw = np.random.default_rng(0)
    for layer in built.layers:
        if type(layer).__name__ == "BatchNormalization":
            channels = layer.gamma.shape[0]
            layer.set_weights(
                [draw.uniform(0.8, 1.2, channels), *draw.normal(0, 0.1, (2, channels)), draw.uniform(0.5, 2, channels)]
            )
    backbone = tf_keras.Model(built.input, built.get_layer("head_pool").output)
    images = tf.constant(data.test.images[:8], tf.float32)
    forward: Any = _inference(backbone)
    keras = backbone(images, training=False).numpy()
    assert np.abs(keras).max() > 1e-3
    with quick_convolutions():
        quick = _inference(backbone)(images)
    for features in (forward(images), quick):
        assert np.allclose(features.numpy(), keras, rtol=1e-3, atol=1e-4 * np.abs(keras).max())
    left = [each.type for each in forward.get_concrete_function().graph.get_operations()]
    assert "FusedBatchNormV3" not in left and "Conv2D" in left


@pytest.mark.parametrize(("scale", "center"), [(True, True), (False, True), (True, False), (False, False)])
def test_several_filters_of_a_channel_are_folded(scale: bool, center: bool) -> None:
    import tensorflow as tf
    import tf_keras

    image = tf_keras.Input((8, 8, 3))
    x = tf_keras.layers.DepthwiseConv2D(3, depth_multiplier=2)(image)
    x = tf_keras.layers.BatchNormalization(scale=scale, center=center)(x)
    backbone = tf_keras.Model(image, tf_keras.layers.GlobalAveragePooling2D()(x))
    draw = np.random.default_rng(0)
    backbone.layers[2].set_weights([draw.uniform(0.5, 2, 6) for _ in backbone.layers[2].weights])
    images = tf.random.normal((4, 8, 8, 3), seed=0)
    assert np.allclose(_inference(backbone)(images), backbone(images, training=False), atol=1e-5)


def test_normalization_of_rows_is_not_folded() -> None:
    import tensorflow as tf
    import tf_keras

    image = tf_keras.Input((8, 8, 3))
    x = tf_keras.layers.Conv2D(8, 3, padding="same")(image)
    x = tf_keras.layers.BatchNormalization(axis=1, gamma_initializer=_ramp, moving_mean_initializer="ones")(x)
    backbone = tf_keras.Model(image, tf_keras.layers.GlobalAveragePooling2D()(x))
    images = tf.random.normal((4, 8, 8, 3), seed=0)
    before = backbone(images, training=False)
    assert np.allclose(_inference(backbone)(images), before, atol=1e-5)
    mirror(backbone)
    assert np.allclose(backbone(images, training=False), before, atol=1e-5)


def _ramp(shape: tuple[int, ...], dtype: object = None) -> np.ndarray:
    return np.linspace(-1, 1, shape[0], dtype=np.float32)


def test_layer_that_trains_by_default_is_in_inference_mode() -> None:
    import tensorflow as tf
    import tf_keras

    class Noise(tf_keras.layers.Layer):  # type: ignore[misc]
        def call(self, x, training=True):
            return x + tf.random.normal(tf.shape(x)) if training else x

    image = tf_keras.Input((8, 8, 3))
    backbone = tf_keras.Model(image, tf_keras.layers.GlobalAveragePooling2D()(Noise()(image)))
    images = tf.random.normal((4, 8, 8, 3), seed=0)
    assert np.allclose(_inference(backbone)(images), backbone(images, training=False), atol=1e-5)


def test_noise_of_a_frozen_backbone_is_off() -> None:
    import tensorflow as tf
    import tf_keras

    image = tf_keras.Input((4, 6))
    x = tf_keras.layers.Attention(dropout=0.5)([image, image])
    x = tf_keras.layers.GaussianNoise(1.0)(x)

    class Attention(tf_keras.layers.Layer):  # type: ignore[misc]
        """A user's own."""

    x = Attention()(x)
    model = tf_keras.Model(image, tf_keras.layers.Dense(2, name="head_logits")(x))
    images = tf.random.normal((4, 4, 6), seed=0)
    frozen = _Trained(model, model.layers[-1:])
    frozen.__enter__()
    assert np.allclose(model(images, training=True), model(images, training=False), atol=1e-5)
    frozen.__exit__(ValueError)
    assert not np.allclose(model(images, training=True), model(images, training=False), atol=1e-5)


def test_head_may_branch(trained: Candidate) -> None:
    """As behind `hard_silu` of Keras 3, which is several layers."""
    import tf_keras

    source = trained.model
    x = pooled = source.get_layer("head_pool").output
    gate = tf_keras.layers.Activation("sigmoid", name="head_gate")(pooled)
    x = tf_keras.layers.Multiply(name="head_gated")([x, gate])
    model = tf_keras.Model(source.input, tf_keras.layers.Dense(10, name="head_logits")(x))
    before = model.get_layer("head_logits").kernel.numpy().copy()
    transfer(epochs=1).apply(dataclasses.replace(trained, model=model), context(1))
    assert not np.array_equal(model.get_layer("head_logits").kernel, before)


def test_normalization_after_an_activation_is_not_folded() -> None:
    import tensorflow as tf
    import tf_keras

    image = tf_keras.Input((8, 8, 3))
    x = tf_keras.layers.Conv2D(4, 3, activation="relu")(image)
    x = tf_keras.layers.BatchNormalization(moving_mean_initializer="ones", beta_initializer="ones")(x)
    backbone = tf_keras.Model(image, tf_keras.layers.GlobalAveragePooling2D()(x))
    images = tf.random.normal((4, 8, 8, 3), seed=0)
    assert np.allclose(_inference(backbone)(images), backbone(images, training=False), atol=1e-5)


@pytest.mark.slow
def test_half_precision_gives_the_head_float32(tmp_path: Path, trained: Candidate) -> None:

    with precision.policy("mixed_bfloat16"):
        candidate = pretrained(trained, tmp_path)
    assert candidate.model.get_layer("block1_conv").compute_dtype == "bfloat16"
    seen = []

    class Watching(Trainer):
        def fit(self, model, *, batches=None, **rest):
            seen.append(next(iter(batches.training))[0])
            # Of float16, it decides whether the loss is scaled.
            assert model.dtype_policy.name == "mixed_bfloat16"
            super().fit(model, batches=batches, **rest)

    it = context(8)
    old = it.trainer
    watching = Watching(settings=old.settings, data=old.data, dataset=old.dataset, seed=0, on_epoch=old.on_epoch)
    transfer(epochs=8, learning_rate=1e-2).apply(candidate, dataclasses.replace(it, trainer=watching))
    assert seen[0].dtype == np.float32
    assert watching.epochs[-1]["val_accuracy"] > 0.85


@pytest.mark.slow
def test_feature_extraction_counts_as_training_time(trained: Candidate, tmp_path: Path) -> None:
    before = []

    class Watching(Trainer):
        def fit(self, model, **rest):
            before.append(self.seconds)
            super().fit(model, **rest)

    it = context(1)
    old = it.trainer
    watching = Watching(settings=old.settings, data=old.data, dataset=old.dataset, seed=0, on_epoch=old.on_epoch)
    transfer().apply(pretrained(trained, tmp_path), dataclasses.replace(it, trainer=watching))
    assert 0 < before[0] < watching.epochs[0]["seconds"] <= watching.seconds


@pytest.mark.slow
def test_top_blocks_train_without_their_normalizations(trained: Candidate, tmp_path: Path) -> None:
    candidate = pretrained(trained, tmp_path)
    before = weights(candidate)
    it = context(2)
    done = transfer(epochs=2, unfreeze_blocks=2, unfreeze_epochs=1).apply(candidate, it)
    assert moved(done, before) == {"block4_conv", "block5_conv", "head_logits"}
    assert len(it.trainer.epochs) == 3
    assert all(layer.trainable for layer in done.model.layers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "first"),
    [
        (VGG(depth=16, weights=None, input_size=32, dropout=0.0, onednn=True), "block5_conv1"),
        ("resnet50", "conv5_block3_1_conv"),
        ("efficientnet_b0", "block7a_expand_conv"),
        ("mobilenet_v2", "block_16_expand"),
    ],
    ids=["vgg16", "resnet50", "efficientnet_b0", "mobilenet_v2"],
)
def test_blocks_are_found_by_their_names(model: Any, first: str) -> None:
    if isinstance(model, str):
        model = composed(f"model={model}", "model.weights=null", "model.input_size=32", "technique=baseline").model
    built = model.build((32, 32, 3), 10)
    backbone = [layer for layer in built.layers if not layer.name.startswith("head_")]
    top = _top_blocks(backbone, 1)
    assert top[0].name == first
    # What stands between the last block and the head is trained too.
    last = [layer for layer in backbone if layer.weights and type(layer).__name__ != "BatchNormalization"][-1]
    assert top[-1] is last


def test_more_blocks_than_there_are(trained: Candidate) -> None:
    transfer(unfreeze_blocks=5).check_network(lambda: trained.model)
    with pytest.raises(ValueError, match="must be at most 5, the number of blocks of the backbone"):
        transfer(unfreeze_blocks=6).check_network(lambda: trained.model)
    with pytest.raises(ValueError, match="must be at most 5, the number of blocks of the backbone"):
        transfer(unfreeze_blocks=6).apply(trained, context())


@pytest.mark.parametrize(
    ("blocks", "fit", "message"),
    [
        (0, lambda _: None, "head_logits must change in training, got equal weights"),
        # The head alone is trained on features, without the layers below it.
        (1, move_weights, "block1_conv must not change while frozen, got other weights"),
    ],
)
def test_training_without_its_effect_is_refused(blocks: int, fit, message: str, trained: Candidate) -> None:
    with pytest.raises(EffectError, match=message):
        transfer(unfreeze_blocks=blocks).apply(trained, with_trainer(context(), fit))


@pytest.mark.slow
def test_frozen_backbone_is_in_inference_mode() -> None:
    """EfficientNet's stochastic depth does not draw while the head is trained, and is there again afterwards."""
    import tensorflow as tf

    model = composed("model=efficientnet_b0", "model.weights=null", "model.input_size=32", "technique=baseline").model
    built = model.build((32, 32, 3), 10)
    rates = [layer.rate for layer in built.layers if type(layer).__name__ == "Dropout"]
    images = tf.random.uniform((4, 32, 32, 3), maxval=255.0, seed=1)
    head = [layer for layer in built.layers if layer.name.startswith("head_") and layer.name != "head_dropout"]
    frozen = _Trained(built, head)
    frozen.__enter__()
    assert np.allclose(built(images, training=True), built(images, training=False), atol=1e-5)
    frozen.__exit__(ValueError)
    assert [layer.rate for layer in built.layers if type(layer).__name__ == "Dropout"] == rates
    assert all(layer.trainable for layer in built.layers)


def test_pretrained_weights_are_needed() -> None:
    with pytest.raises(ValueError, match="transfer needs pretrained weights"):
        transfer().preflight(SMALL_CNN)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "technique.epochs must be"),
        ({"learning_rate": 0}, "technique.learning_rate must be"),
        ({"unfreeze_blocks": -1}, "technique.unfreeze_blocks must be"),
        ({"unfreeze_epochs": 0}, "technique.unfreeze_epochs must be"),
        ({"unfreeze_learning_rate": -1}, "technique.unfreeze_learning_rate must be"),
    ],
)
def test_bad_values(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transfer(**changed)


def test_settings_without_effect_make_no_other_cell() -> None:
    assert transfer(unfreeze_learning_rate=1e-5, unfreeze_epochs=3) == transfer()
