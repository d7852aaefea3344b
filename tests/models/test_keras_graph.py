"""Models of both generations, rebuilt: the answers are the file's, and the graph is one that techniques take."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.models import keras_file
from pipelines.training import precision
from tests.models.keras_files import (
    SHAPE,
    agree,
    images,
    library,
    randomized,
    saved,
    settings,
    with_even_answers,
)

GENERATIONS = pytest.mark.parametrize("generation", [2, 3])
# Keras' own builders; those that take a depth have as few blocks in a stage as hold every kind of block.
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet.ResNet": {
        "stack_fn": lambda x: residual(residual(x, 32, 2, name="one"), 64, 1, name="two"),
        "preact": False,
        "use_bias": True,
    },
    "mobilenet_v2.MobileNetV2": {},
    "mobilenet_v3.MobileNetV3Small": {},
    "efficientnet.EfficientNet": {"width_coefficient": 1.0, "depth_coefficient": 0.4, "default_size": 32},
    "efficientnet_v2.EfficientNetV2": {
        "width_coefficient": 1.0,
        "depth_coefficient": 0.6,
        "default_size": 32,
        "name": "efficientnetv2-b0",
    },
    "densenet.DenseNet": {"blocks": (2, 2, 2, 2)},
    "xception.Xception": {"input_shape": (72, 72, 3)},
    "convnext.ConvNeXt": {"depths": (1, 2, 1, 1), "projection_dims": (32, 64, 64, 128)},
}


def residual(*given: Any, **named: Any) -> Any:
    """Blocks of a ResNet, as Keras builds them."""
    return import_module("keras.src.applications.resnet").stack_residual_blocks_v1(*given, **named)


def check_flat_graph(built: Any) -> None:
    keras = library(2)
    names = [layer.name for layer in built.layers]
    assert len(set(names)) == len(names)
    assert not [layer for layer in built.layers if isinstance(layer, keras.Model)]
    assert names[-1].startswith("head_")
    dense = [layer.name for layer in built.layers if isinstance(layer, keras.layers.Dense)]
    assert all(name.startswith("head_") for name in dense[-1:])


def check(model: Any, path: Path, shape: tuple[int, int, int] = SHAPE, spread: float = 0.01, **changed: Any) -> Any:
    """Save a model with random weights, rebuild it, and compare."""
    randomized(model)
    if spread:
        with_even_answers(model, images(shape))
    file = settings(saved(model, path), **changed)
    file.preflight(shape)
    built = file.build(shape, 10)
    check_flat_graph(built)
    agree(model, built, images(shape), spread=spread)
    return built


def norms(model: Any) -> list[float]:
    """The length of every weight tensor, but for what becomes constants: mean and variance of Normalization."""
    layers = [layer for layer in model._flatten_layers() if not hasattr(layer, "layers")]
    weights = [one for layer in layers if type(layer).__name__ != "Normalization" for one in layer.weights]
    return sorted(round(float(np.linalg.norm(np.asarray(one))), 3) for one in weights if len(one.shape))


def small(keras: Any, *middle: Any) -> Any:
    """A model whose middle layers come between a convolution and the answers."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            *middle,
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def inner(keras: Any) -> Any:
    """A model with a branch, to put into another one."""
    layers = keras.layers
    inputs = keras.Input(SHAPE)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, use_bias=False)(inputs)))
    return keras.Model(inputs, layers.Add()([x, layers.Conv2D(8, 1)(x)]), name="backbone")


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_network_of_keras_3_answers_as_its_file(network: str, tmp_path: Path) -> None:
    library(3).utils.set_random_seed(0)
    module, _, builder = network.partition(".")
    given = {"input_shape": SHAPE} | NETWORKS[network]
    model = getattr(import_module(f"keras.src.applications.{module}"), builder)(weights=None, classes=10, **given)
    # Where statistics that fit the images would make rounding errors larger than what is tested.
    spread = 0.0 if module.startswith("efficientnet") else 0.01
    built = check(model, tmp_path / "model.keras", given["input_shape"], spread=spread)
    assert norms(model) == norms(built)


@pytest.mark.slow
def test_network_of_keras_2_answers_as_its_file(tmp_path: Path) -> None:
    library(2).utils.set_random_seed(0)
    model = library(2).applications.MobileNetV3Small(input_shape=SHAPE, weights=None, classes=10)
    check(model, tmp_path / "model.h5")


@GENERATIONS
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_both_kinds_of_file_of_both_generations(generation: int, suffix: str, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    middle = [layers.BatchNormalization(), layers.LeakyReLU(), layers.DepthwiseConv2D(3, activation="relu6")]
    built = check(small(keras, *middle, layers.Dropout(0.5), layers.MaxPooling2D()), tmp_path / f"model{suffix}")
    kinds = [type(layer).__name__ for layer in built.layers]
    assert kinds.count("BatchNormalization") == kinds.count("DepthwiseConv2D") == 1


@GENERATIONS
def test_random_cut_is_what_it_is_in_use(generation: int, tmp_path: Path) -> None:
    """In use, Keras 3 leaves the images and Keras 2 makes them smaller; neither is random."""
    keras = library(generation)
    layers = keras.layers
    cut = [layers.RandomCrop(24, 24), layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 255), *cut, layers.Dense(10, "softmax")])
    built = check(model, tmp_path / "model.keras")
    kinds = [type(layer).__name__ for layer in built.layers]
    assert "RandomCrop" not in kinds and ("Resizing" in kinds) == (generation == 2)


@GENERATIONS
@pytest.mark.parametrize("mode", ["tf", "caffe", "torch"])
def test_nested_transfer_learning_model(generation: int, mode: str, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    backbone = inner(keras)
    backbone.trainable = False
    augmentation = keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(0.1),
            layers.RandomZoom(0.1),
            layers.RandomContrast(0.1),
        ]
    )
    image = keras.Input(SHAPE)
    x = keras.applications.imagenet_utils.preprocess_input(augmentation(image), data_format="channels_last", mode=mode)
    x = layers.GlobalAveragePooling2D()(backbone(x, training=False))
    x = layers.Dense(16, activation="relu")(layers.Dropout(0.2)(x))
    model = keras.Model(image, layers.Dense(10, activation="softmax")(x))
    # Keras 2 cannot write `x[..., ::-1]` to a .keras file.
    built = check(model, tmp_path / ("model.keras" if generation == 3 else "model.h5"))
    kinds = {type(layer).__name__ for layer in built.layers}
    assert not any(kind.startswith("Random") for kind in kinds)
    assert all(layer.trainable for layer in built.layers)
    assert len([layer for layer in built.layers if layer.name.startswith("head_")]) == 4


@GENERATIONS
@pytest.mark.parametrize("kind", ["BatchNormalization", "DepthwiseConv2D", "hard_sigmoid"])
def test_layers_of_a_channel_behind_a_swap_of_colours(generation: int, kind: str, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    image = keras.Input(SHAPE)
    # `hard_sigmoid` of Keras 3 becomes layers.
    of_kind = {
        "BatchNormalization": layers.BatchNormalization,
        "DepthwiseConv2D": lambda: layers.DepthwiseConv2D(3),
        "hard_sigmoid": lambda: layers.Activation("hard_sigmoid"),
    }
    x = layers.Conv2D(8, 3)(of_kind[kind]()(layers.Rescaling(1 / 255)(image[..., ::-1])))
    model = keras.Model(image, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
    check(model, tmp_path / ("model.keras" if generation == 3 else "model.h5"))


@GENERATIONS
def test_a_layer_may_be_called_like_one_of_the_head(generation: int, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    model = small(keras, layers.Conv2D(4, 1, name="head_conv"), layers.LeakyReLU())
    built = check(model, tmp_path / "model.keras")
    assert "backbone_head_conv" in [layer.name for layer in built.layers]
    heads = [type(layer).__name__ for layer in built.layers if layer.name.startswith("head_")]
    assert "Conv2D" not in heads and heads[-1] == "Dense"


@GENERATIONS
@pytest.mark.parametrize("constants", [list, np.array])
def test_scaling_behind_a_swap_of_colours(generation: int, constants: Any, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    image = keras.Input(SHAPE)
    scale, offset = constants([0.2, 0.1, 0.05]), constants([-10.0, -3.0, 5.0])
    x = layers.Conv2D(8, 3)(layers.Rescaling(scale, offset=offset)(image[..., ::-1]))
    model = keras.Model(image, layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x)))
    check(model, tmp_path / ("model.keras" if generation == 3 else "model.h5"))


@GENERATIONS
@pytest.mark.parametrize(
    "part",
    [
        np.s_[:, :, ::-1],  # of images in a batch, it mirrors the width
        np.s_[:, ::-1],
        np.s_[:, 2:-2, 2:-2, ::-1],
        np.s_[:, 4:12],
    ],
)
def test_cut_or_mirrored_image_is_no_swap_of_colours(generation: int, part: Any, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    image = keras.Input(SHAPE)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(image[part]))
    model = keras.Model(image, layers.Dense(10, activation="softmax")(x))
    path = saved(model, tmp_path / ("model.keras" if generation == 3 else "model.h5"))
    with pytest.raises(ValueError, match="cannot be written as a layer"):
        settings(path).build(SHAPE, 10)


@GENERATIONS
def test_names_of_the_file_may_be_those_of_the_input_part(generation: int, tmp_path: Path) -> None:
    layers = library(generation).layers
    model = small(library(generation), layers.Conv2D(4, 1, name="resize"), layers.Conv2D(4, 1, name="rescale"))
    file = settings(saved(randomized(model), tmp_path / "model.keras"), pixels="0..1", input_size=None)
    larger = (2 * SHAPE[0], 2 * SHAPE[1], 3)
    names = [layer.name for layer in file.build(larger, 10).layers]
    assert len(set(names)) == len(names) and {"resize", "rescale"} <= set(names)


@GENERATIONS
def test_sequential_around_a_backbone(generation: int, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.RandomFlip(),
            layers.Rescaling(1 / 127.5, offset=-1),
            inner(keras),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    check(model, tmp_path / "model.keras")


def test_two_backbones_with_layers_of_equal_names(tmp_path: Path) -> None:
    keras = library(3)
    layers = keras.layers
    made = []
    for name in ("left", "right"):
        inputs = keras.Input(SHAPE)
        made.append(keras.Model(inputs, layers.Conv2D(8, 3, name="conv")(inputs), name=name))
    image = keras.Input(SHAPE)
    x = layers.Concatenate()([one(layers.Rescaling(1 / 255)(image)) for one in made])
    x = layers.Dense(10)(layers.GlobalMaxPooling2D()(x))
    built = check(keras.Model(image, layers.Softmax()(x)), tmp_path / "model.keras")
    assert {"conv", "right_conv"} <= {layer.name for layer in built.layers}


@GENERATIONS
@pytest.mark.parametrize("activation", ["hard_sigmoid", "swish", "gelu", "elu", "relu6", "tanh"])
def test_activation_of_either_generation(generation: int, activation: str, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    name = "relu" if (generation, activation) == (2, "relu6") else activation
    middle = [layers.Conv2D(8, 3, activation=name), layers.BatchNormalization(), layers.Activation(name)]
    check(small(keras, *middle), tmp_path / "model.keras")


@pytest.mark.parametrize("activation", ["hard_silu", "hard_sigmoid", "leaky_relu", "silu", "relu6"])
def test_activation_of_keras_3_alone(activation: str, tmp_path: Path) -> None:
    keras = library(3)
    layers = keras.layers
    inside = layers.Conv2D(8, 3, activation=activation)
    check(small(keras, inside, layers.BatchNormalization(), layers.Activation(activation)), tmp_path / "model.keras")


def test_activation_inside_a_layer_is_that_of_keras_3(tmp_path: Path) -> None:
    keras = library(3)
    layers = keras.layers
    inside = [layers.Reshape((-1, 8)), layers.Conv1D(8, 3, activation="hard_sigmoid", name="gate")]
    model = small(keras, *inside, layers.Reshape((1, -1, 8)))
    with pytest.raises(ValueError, match=r"layer gate of kind Conv1D has activation=hard_sigmoid.*use sigmoid, or"):
        settings(saved(model, tmp_path / "model.keras")).build(SHAPE, 10)


def test_augmentation_to_another_size_is_left_out(tmp_path: Path) -> None:
    layers = library(2).layers
    augmentation = [layers.RandomHeight(0.2), layers.RandomWidth(0.2), layers.Rescaling(1 / 255)]
    ends = [layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dense(10, "softmax")]
    model = library(2).Sequential([layers.Input(SHAPE), *augmentation, *ends])
    built = check(model, tmp_path / "model.keras")
    assert all(None not in layer.output_shape[1:] for layer in built.layers[1:])


def test_scaled_sum_of_keras_3(tmp_path: Path) -> None:
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    keras = library(3)
    image = keras.Input(SHAPE)
    x = keras.layers.Rescaling(1 / 255)(image)
    x = CustomScaleLayer(0.17)([x, keras.layers.Conv2D(3, 3, padding="same", activation="relu")(x)])
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3)(x))
    check(keras.Model(image, keras.layers.Dense(10, "softmax")(x)), tmp_path / "model.keras")


@GENERATIONS
def test_penalties_stay_in_fine_tuning(generation: int, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    separable = layers.SeparableConv2D(
        8, 3, depthwise_regularizer="l2", pointwise_regularizer="l1", bias_regularizer="l2"
    )
    ends = [separable, layers.GlobalAveragePooling2D(), layers.Dense(10, "softmax", kernel_regularizer="l2")]
    model = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(8, 3, kernel_regularizer="l2"), *ends])
    built = check(model, tmp_path / "model.keras")
    np.testing.assert_allclose(np.sum(built.losses), np.sum([np.asarray(one) for one in model.losses]), rtol=1e-5)


@GENERATIONS
@pytest.mark.parametrize(
    "convolution",
    [
        {"strides": 2, "depth_multiplier": 2, "activation": "relu"},
        {"padding": "same", "use_bias": False},
        {"dilation_rate": 2, "depth_multiplier": 3},
    ],
)
def test_separable_convolution(generation: int, convolution: dict[str, Any], tmp_path: Path) -> None:
    keras = library(generation)
    layer = keras.layers.SeparableConv2D(12, 3, **convolution)
    built = check(small(keras, layer, keras.layers.BatchNormalization()), tmp_path / "model.keras")
    kinds = [type(layer).__name__ for layer in built.layers]
    assert kinds.count("DepthwiseConv2D") == 1 and "SeparableConv2D" not in kinds


@GENERATIONS
def test_arithmetic_on_tensors(generation: int, tmp_path: Path) -> None:
    keras = library(generation)
    layers = keras.layers
    image = keras.Input(SHAPE)
    x = (image / 255.0 - np.array([0.5, 0.4, 0.3], np.float32)) * 2.0
    left, right = (layers.Conv2D(8, 3)(one) for one in (x, 1.0 - x))
    x = left + right * (left - right) + 0.5
    if generation == 2:
        import tensorflow as tf

        x = tf.reduce_mean(tf.nn.relu(x), axis=[1, 2])
    else:
        x = keras.ops.mean(keras.ops.relu(x), axis=[1, 2])
    check(keras.Model(image, layers.Dense(10, activation="softmax")(x)), tmp_path / "model.keras")


@GENERATIONS
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_trusted_lambda(generation: int, suffix: str, tmp_path: Path) -> None:
    keras = library(generation)
    scale = keras.layers.Lambda(lambda x: x * 2.0 - 1.0)
    check(small(keras, scale), tmp_path / f"model{suffix}", trust=True)


def test_mixed_precision_file_computes_in_float32(tmp_path: Path) -> None:
    keras = library(3)

    def made(policy: str) -> Any:
        layers = keras.layers
        image = keras.Input(SHAPE)
        x = layers.Rescaling(1 / 255, dtype=policy)(image)
        x = layers.BatchNormalization(dtype=policy)(layers.Conv2D(8, 3, dtype=policy)(x))
        x = layers.GlobalAveragePooling2D(dtype=policy)(layers.Activation("relu", dtype=policy)(x))
        return keras.Model(image, layers.Dense(10, activation="softmax", dtype="float32")(x))

    mixed, plain = made("mixed_float16"), with_even_answers(randomized(made("float32")), images(SHAPE))
    mixed.set_weights(plain.get_weights())
    built = settings(saved(mixed, tmp_path / "model.keras")).build(SHAPE, 10)
    assert {layer.dtype for layer in built.layers} == {"float32"}
    agree(plain, built, images(SHAPE))


@pytest.mark.parametrize(
    "of",
    [
        lambda keras, x: keras.ops.elu(x, alpha=0.5),
        lambda keras, x: keras.ops.softmax(x, axis=1),
        # Its approximation by a hyperbolic tangent, which is the default of the operation and not of the layer.
        lambda keras, x: keras.ops.gelu(x),
    ],
    ids=["elu", "softmax", "gelu"],
)
def test_operation_with_another_parameter_is_refused(of: Callable[[Any, Any], Any], tmp_path: Path) -> None:
    keras = library(3)
    image = keras.Input(SHAPE)
    x = of(keras, keras.layers.Conv2D(2, 3)(image))
    model = keras.Model(image, keras.layers.Dense(10)(keras.layers.Flatten()(x)))
    with pytest.raises(ValueError, match="cannot be written as a layer"):
        settings(saved(model, tmp_path / "model.keras")).build(SHAPE, 10)


def test_operation_with_the_usual_parameter_is_taken(tmp_path: Path) -> None:
    keras = library(3)
    image = keras.Input(SHAPE)
    x = keras.ops.gelu(keras.ops.elu(keras.layers.Conv2D(4, 3)(image)), approximate=False)
    x = keras.layers.GlobalAveragePooling2D()(keras.ops.softmax(x))
    check(keras.Model(image, keras.layers.Dense(10, activation="softmax")(x)), tmp_path / "model.keras", spread=0.0)


def test_option_that_only_keras_3_has_is_refused(tmp_path: Path) -> None:
    keras = library(3)
    model = small(keras, keras.layers.Resizing(16, 16, antialias=True))
    with pytest.raises(ValueError, match=r"of kind Resizing has antialias=True, which Keras 2 lacks"):
        settings(saved(model, tmp_path / "model.keras")).build(SHAPE, 10)


@pytest.mark.parametrize("pixels", keras_file.PIXELS)
def test_images_of_another_size_are_resized(pixels: str, tmp_path: Path) -> None:
    keras = library(3)
    model = randomized(small(keras))
    file = settings(saved(model, tmp_path / "model.keras"), pixels=pixels)
    built = file.build((48, 40, 3), 10)
    assert built.input_shape == (None, 48, 40, 3)
    assert file.side == 32
    assert np.isfinite(np.asarray(built(images((48, 40, 3))))).all()


def test_size_of_images_may_be_free(tmp_path: Path) -> None:
    keras = library(3)
    layers = keras.layers
    image = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(layers.Rescaling(1 / 255)(image)))
    model = keras.Model(image, layers.Dense(10, activation="softmax")(x))
    with pytest.raises(ValueError, match=r"model.input_size must be given.*model.input_size=224"):
        settings(saved(model, tmp_path / "model.keras")).preflight(SHAPE)
    check(model, tmp_path / "model.keras", input_size=32)


def test_operation_without_a_layer_is_named(tmp_path: Path) -> None:
    keras = library(3)
    layers = keras.layers
    image = keras.Input(SHAPE)
    x = layers.Flatten()(keras.ops.cumsum(layers.Conv2D(2, 3)(image), axis=1))
    model = keras.Model(image, layers.Dense(10)(x))
    with pytest.raises(ValueError, match=r"the operation cumsum\w* \(Cumsum\) cannot be written as a layer"):
        settings(saved(model, tmp_path / "model.keras")).build(SHAPE, 10)


@GENERATIONS
def test_answers_are_compared_in_full_precision(generation: int, tmp_path: Path) -> None:
    """A deep network, built for a training in half precision, in which 25 layers round by more than a percent."""
    layers = library(generation).layers
    deep = [layers.Conv2D(16, 3, padding="same", activation="relu", kernel_initializer="he_normal") for _ in range(25)]
    model = library(generation).Sequential(
        [library(generation).Input(SHAPE), *deep, layers.Flatten(), layers.Dense(10)]
    )
    path = saved(model, tmp_path / "model.keras")
    with precision.policy("mixed_bfloat16"):
        built = settings(path).build(SHAPE, 10)
    assert precision.used(built) == "mixed_bfloat16"
