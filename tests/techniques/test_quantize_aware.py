"""Training with int8 rounding: integer files that answer as the training did, with zeros and shared values kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from pipelines.litert.exported_model import ExportedModel, tensor_dtypes
from pipelines.litert.kernels import kernels, sparsity
from pipelines.models import checkpoint
from pipelines.models.checkpoint import duplicate
from pipelines.techniques.base import Candidate, Chain, EffectError
from pipelines.techniques.folding import equalize
from pipelines.techniques.quantize_aware import QuantizeAware
from tests.cells.test_config import composed
from tests.conftest import context, exported, exported_accuracy, small_data, through
from tests.techniques.test_cluster import cluster, values
from tests.techniques.test_prune import prune


def qat(**changed: Any) -> QuantizeAware:
    fields: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-3, "preserve": "nothing"}
    return QuantizeAware(**fields | changed)


def agreement(candidate: Candidate, exported_model: Path) -> tuple[float, float]:
    """How often the exported model answers as the network with emulated rounding, and as the plain one, does."""
    assert candidate.fake_quantized is not None
    data, _ = small_data()
    answers = ExportedModel(exported_model).logits(data.test.images).argmax(axis=1)
    pixels = data.test.images.astype(np.float32)
    fake_quantized, plain = (
        float((model.predict(pixels, verbose=0).argmax(axis=1) == answers).mean())
        for model in (candidate.fake_quantized, candidate.model)
    )
    return fake_quantized, plain


@pytest.mark.slow
def test_exported_model_is_integer_and_matches_training(
    trained: Candidate, exported_baseline: Path, tmp_path: Path
) -> None:
    technique = qat()
    before = trained.model.get_layer("block3_conv").kernel.numpy().copy()
    done = technique.apply(trained, context(2))
    exported_model = exported(done, tmp_path / "model.tflite")
    technique.verify(done, exported_model)
    assert "float32" not in tensor_dtypes(exported_model)
    assert ExportedModel(exported_model).input_dtype == np.uint8
    fake_quantized, plain = agreement(done, exported_model)
    assert fake_quantized >= 0.98 and plain >= 0.95
    assert exported_accuracy(exported_model) > 0.85
    assert exported_model.stat().st_size < 0.4 * exported_baseline.stat().st_size
    assert not np.array_equal(done.model.get_layer("block3_conv").kernel, before)
    with pytest.raises(EffectError, match="qat left"):
        technique.verify(done, exported_baseline)
    # A network without zeros.
    with pytest.raises(EffectError, match="prune promised 70% zeros"):
        PRUNE.verify(done, exported_model)
    # An attempt that ended after its training goes on to the same answers.
    done.model.save(tmp_path / "checkpoint.keras")
    resumed = technique.resumed(checkpoint.load(tmp_path / "checkpoint.keras"), technique.state(done))
    images = small_data()[0].test.images
    again = exported(resumed, tmp_path / "again.tflite")
    assert np.array_equal(ExportedModel(again).logits(images), ExportedModel(exported_model).logits(images))


def test_range_of_pixels_is_not_that_of_the_training_images(trained: Candidate, tmp_path: Path) -> None:
    data, _ = small_data()
    dark = replace(data, train=replace(data.train, images=data.train.images // 2))
    it = context(1)
    done = qat().apply(trained, replace(it, trainer=replace(it.trainer, data=dark)))
    exported_model = exported(done, tmp_path / "model.tflite")
    assert Interpreter(str(exported_model)).get_input_details()[0]["quantization"] == (pytest.approx(1), 0)


PRUNE = prune(epochs=6)


@pytest.fixture(scope="module")
def pruned(trained_once: Candidate) -> Candidate:
    """A network of whose weights seven in ten are zeros."""
    return PRUNE.apply(Candidate(model=duplicate(trained_once.model)), context(6))


@pytest.mark.slow
def test_pruned_network_keeps_its_zeros(pruned: Candidate, tmp_path: Path) -> None:
    chain = Chain(steps={"prune": PRUNE, "qat": qat(preserve="sparsity")}, alias="pqat")
    done = through(chain, Candidate(model=duplicate(pruned.model)), context(6), after=1)
    exported_model = exported(done, tmp_path / "model.tflite")
    chain.verify(done, exported_model)
    # Rounding makes some more.
    assert 0.69 < sparsity(exported_model) < 0.75
    assert agreement(done, exported_model)[0] >= 0.98


@pytest.mark.slow
def test_clustered_network_keeps_its_shared_values(trained: Candidate, tmp_path: Path) -> None:
    """Those of each channel; those of the whole kernel: test_cluster, test_upstream."""
    steps = {"cluster": cluster(per_channel=True), "qat": qat(preserve="clusters")}
    chain = Chain(steps=steps, alias="cqat")
    done = through(chain, trained, context(2))
    exported_model = exported(done, tmp_path / "model.tflite")
    chain.verify(done, exported_model)
    assert max(values(exported_model)) <= 16
    kernel = done.model.get_layer("block3_conv").kernel.numpy()
    assert 16 < len(np.unique(kernel)) <= 16 * kernel.shape[-1]
    assert agreement(done, exported_model)[0] >= 0.98


@pytest.mark.slow
def test_networks_with_other_layers_become_integer_too(tmp_path: Path) -> None:
    """Swish, squeeze and excitation, Normalization, Resizing: all in the first blocks of EfficientNet."""
    import tf_keras

    data, _ = small_data()
    model = composed("model=efficientnet_b0", "model.weights=null", "model.input_size=32", "technique=baseline").model
    whole = model.build(data.image_shape, 10)
    pooled = tf_keras.layers.GlobalAveragePooling2D()(whole.get_layer("block2b_add").output)
    candidate = Candidate(model=tf_keras.Model(whole.input, tf_keras.layers.Dense(10)(pooled)))
    technique = qat(epochs=1)
    done = technique.apply(candidate, context(1))
    exported_model = exported(done, tmp_path / "model.tflite")
    technique.verify(done, exported_model)
    assert "float32" not in tensor_dtypes(exported_model)


def test_normalization_without_scale_and_offset_is_copied_back() -> None:
    import tf_keras

    data, _ = small_data()
    image = tf_keras.Input(data.image_shape)
    x = tf_keras.layers.Conv2D(4, 3, use_bias=False)(image)
    x = tf_keras.layers.BatchNormalization(center=False, scale=False, name="bare")(x)
    x = tf_keras.layers.GlobalAveragePooling2D()(tf_keras.layers.ReLU()(x))
    candidate = Candidate(model=tf_keras.Model(image, tf_keras.layers.Dense(10)(x)))
    done = qat(epochs=1).apply(candidate, context(1))
    mean, variance = done.model.get_layer("bare").get_weights()
    assert mean.all() and (variance != 1).all()


def test_branches_of_the_pixels_have_ranges_of_their_own() -> None:
    import tf_keras

    from pipelines.techniques.fake_quantization import _with_integer_scaling

    layers = tf_keras.layers
    image = layers.Input((8, 8, 3))
    first = layers.Rescaling(1 / 127.5, offset=-1, name="first")(image)
    second = layers.Rescaling(1 / 255, offset=-0.5, name="second")(layers.Resizing(8, 8)(image))
    third = layers.Rescaling(2.0, offset=1.0, name="third")(first)
    model = tf_keras.Model(image, layers.Concatenate()([first, second, third]))
    found = _with_integer_scaling(model)
    ranges = {name: (found.get_layer(name).low, found.get_layer(name).high) for name in ("first", "second", "third")}
    assert {name: pytest.approx(one) for name, one in ranges.items()} == {
        "first": (0, 2), "second": (0, 1), "third": (-2, 2),
    }  # fmt: skip


def test_pixels_that_do_not_reach_zero_are_not_clipped() -> None:
    import tf_keras

    from pipelines.techniques.fake_quantization import _with_integer_scaling

    layers = tf_keras.layers
    image = layers.Input((8, 8, 3))
    # x / 255 + 1, then 2 x - 3.
    model = tf_keras.Model(image, layers.Rescaling(2.0, offset=-3.0)(layers.Rescaling(1 / 255, offset=1.0)(image)))
    pixels = np.random.default_rng(0).integers(256, size=(2, 8, 8, 3)).astype(np.float32)
    # A step of 256 over 0 to 4.
    assert np.allclose(_with_integer_scaling(model)(pixels), model(pixels), atol=4 / 255)


@pytest.mark.parametrize("bias", [False, True])
def test_channels_of_a_depthwise_kernel_are_rounded_alike(bias: bool, tmp_path: Path) -> None:
    import tf_keras

    data, _ = small_data()
    layers = tf_keras.layers
    image = layers.Input(data.image_shape)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3)(layers.Rescaling(1 / 255)(image))))
    x = layers.BatchNormalization(name="after")(layers.DepthwiseConv2D(3, use_bias=bias, name="depthwise")(x))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    model = tf_keras.Model(image, layers.Dense(10)(x))
    sizes = np.float32(10.0) ** -np.arange(8)  # of the last, weights count as larger than they are
    kernel, *others = model.get_layer("depthwise").get_weights()
    model.get_layer("depthwise").set_weights([kernel * sizes[:, None], *others])
    gamma, beta, mean, _ = model.get_layer("after").get_weights()
    model.get_layer("after").set_weights([gamma, beta + 0.5, mean + 0.1 * sizes, (0.2 * sizes) ** 2 + 1e-12])
    pixels = data.test.images.astype(np.float32)
    before = model(pixels).numpy()
    equalize(model)
    largest = abs(model.get_layer("depthwise").depthwise_kernel.numpy()).max(axis=(0, 1, 3))
    assert np.allclose(largest[:4], 1) and (largest[5:] < 0.2).all()
    assert np.allclose(model(pixels), before, atol=1e-4)
    done = qat(epochs=1).apply(Candidate(model=model), context(1))
    (found,) = (one for one in kernels(exported(done, tmp_path / "m.tflite")) if one.operator == "DEPTHWISE_CONV_2D")
    codes = abs(found.values.astype(int)).max(axis=(0, 1, 2))
    # With one scale for all channels, the fourth had at most 1.
    assert (codes[:4] > 60).all(), codes


def test_ranges_of_kernels_are_those_of_the_best_epoch(trained: Candidate) -> None:
    from pipelines.techniques.fake_quantization import wrappers

    done = qat(epochs=1, learning_rate=1e-2).apply(trained, context(1))
    assert done.fake_quantized is not None
    for wrapper in wrappers(done.fake_quantized):
        for kernel, _, variables in wrapper._weight_vars:
            largest = abs(kernel.numpy()).reshape(-1, kernel.shape[-1]).max(axis=0)
            # That of a dense layer is one for all units.
            assert np.allclose(variables["max_var"], largest if variables["max_var"].shape.rank else largest.max())


def test_layers_of_users_networks_become_integer(tmp_path: Path) -> None:
    """ReLU behind a convolution, a normalization and a dense layer, ReLU6, arithmetic inside, a whole offset."""
    import tf_keras

    from pipelines.techniques.fake_quantization import fake_quantized, wrappers

    data, _ = small_data()
    layers = tf_keras.layers
    image = x = layers.Input(data.image_shape)
    x = layers.Rescaling(1 / 127, offset=-1)(x)
    x = layers.ReLU(name="behind_conv")(layers.Conv2D(8, 3, name="conv")(x))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, use_bias=False)(x)))
    gate = layers.Rescaling(1 / 6, name="by_6")(layers.ReLU(6.0)(layers.Rescaling(1.0, offset=3.0, name="add_3")(x)))
    x = layers.Multiply()([x, gate])
    x = layers.Activation("relu")(layers.Dense(16, name="dense")(layers.GlobalAveragePooling2D()(x)))
    model = tf_keras.Model(image, layers.Dense(10, name="logits")(x))
    rounded = {wrapper.layer.name for wrapper in wrappers(fake_quantized(model)) if wrapper._weight_vars}
    assert {"conv", "dense"} <= rounded
    done = qat(epochs=1).apply(Candidate(model=model), context(1))
    exported_model = exported(done, tmp_path / "model.tflite")
    assert "float32" not in tensor_dtypes(exported_model)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "technique.epochs must be"),
        ({"learning_rate": 0}, "technique.learning_rate must be"),
        ({"preserve": "all"}, "technique.preserve must be one of nothing, sparsity, clusters"),
    ],
)
def test_bad_values(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        qat(**changed)
