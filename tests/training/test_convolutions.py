"""Convolutions in training against TensorFlow's own: values and gradients, layers, and what a fit traces."""

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tensorflow.compat.v2 import nn

from pipelines.system import runtime
from pipelines.training import precision
from pipelines.training.convolutions import quick_convolutions
from tests.conftest import context

MAPS = [(1, 1), (2, 2), (3, 3), (4, 5), (7, 2), (8, 8)]
KERNELS = [(1, 1), (2, 2), (3, 3), (5, 5), (1, 3), (4, 3), (7, 7)]


def numbers(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(sum(shape)).normal(size=shape), tf.float32)


def found(convolve: Callable[[Any, Any], Any], maps: tf.Tensor, kernel: tf.Tensor) -> list[tf.Tensor]:
    """The outputs, and the gradients of maps and kernel where each output has a gradient of its own."""
    with tf.GradientTape() as tape:
        tape.watch([maps, kernel])
        outputs = convolve(maps, kernel)
        weighed = tf.reduce_sum(outputs * numbers(*outputs.shape))
    return [outputs, *tape.gradient(weighed, [maps, kernel])]


def compare(convolve: Callable[[Any, Any], Any], maps: tf.Tensor, kernel: tf.Tensor) -> None:
    expected = found(convolve, maps, kernel)
    with quick_convolutions():
        quick = found(convolve, maps, kernel)
    for one, other in zip(quick, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_results_and_gradients_equal_tensorflows(stride: int, padding: str) -> None:
    usual = {"padding": padding, "data_format": "NHWC", "dilations": [1, 1]}
    for size, taps in itertools.product(MAPS, KERNELS):
        if padding == "VALID" and (size[0] < taps[0] or size[1] < taps[1]):
            continue
        maps = numbers(3, *size, 8)
        compare(lambda x, k: nn.convolution(x, k, strides=[stride] * 2, **usual), maps, numbers(*taps, 8, 6))
        compare(
            lambda x, k: nn.depthwise_conv2d(x, k, strides=(1, stride, stride, 1), **usual), maps, numbers(*taps, 8, 1)
        )


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_bfloat16_is_exact_to_its_digits(stride: int, padding: str) -> None:
    """Against float32 on the same numbers, which bfloat16 holds exactly."""
    for size, taps in itertools.product([*MAPS, (9, 9)], KERNELS):
        if padding == "VALID" and (size[0] < taps[0] or size[1] < taps[1]):
            continue
        given = [tf.cast(numbers(*shape), tf.bfloat16) for shape in ((2, *size, 128), (*taps, 128, 6))]

        def convolve(maps: Any, kernel: Any) -> Any:
            settings = {"padding": padding, "data_format": "NHWC", "dilations": [1, 1]}
            return tf.cast(nn.convolution(maps, kernel, strides=[stride] * 2, **settings), tf.float32)

        true = found(convolve, *(tf.cast(one, tf.float32) for one in given))
        with quick_convolutions():
            quick = found(convolve, *given)
        assert [one.dtype for one in quick] == [tf.float32, tf.bfloat16, tf.bfloat16]
        for exact, one in zip(true, quick, strict=True):
            error = np.linalg.norm(tf.cast(one, tf.float32) - exact)
            assert error <= 0.005 * np.linalg.norm(exact), f"{size}, {taps}"


@pytest.mark.parametrize(
    ("function", "kernel", "dilation"),
    [("convolution", (1, 1, 4, 6), 1), ("convolution", (3, 3, 8, 6), 2), ("depthwise_conv2d", (5, 5, 8, 2), 1),
     ("depthwise_conv2d", (3, 3, 8, 1), 2)],
)  # fmt: skip
def test_grouped_dilated_and_multiplied_ones_stay_as_they_are(
    function: str, kernel: tuple[int, ...], dilation: int
) -> None:
    strides = [1, 1] if function == "convolution" else (1, 1, 1, 1)
    settings = {"strides": strides, "padding": "SAME", "data_format": "NHWC", "dilations": [dilation] * 2}
    compare(lambda x, k: getattr(nn, function)(x, k, **settings), numbers(3, 4, 4, 8), numbers(*kernel))


def network() -> tf_keras.Model:
    """Each kind once: a depthwise kernel wider than 3, one larger than its map, one pixel, one row and a 3x3 on one."""
    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    return tf_keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(5, padding="same"),
            layers.Conv2D(48, 1, activation="relu"),
            layers.Conv2D(32, 1, strides=2, padding="same"),
            layers.DepthwiseConv2D(3, padding="same"),
            layers.MaxPooling2D(),
            layers.Conv2D(48, 3, padding="same"),
            layers.DepthwiseConv2D(5, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10),
        ]
    )


def kinds(model: tf_keras.Model) -> list[str]:
    """The operators of a step forward and back."""

    @tf.function
    def step(images: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=True))
        return tape.gradient(loss, model.trainable_variables)

    graph = step.get_concrete_function(tf.TensorSpec((None, 8, 8, 3))).graph
    return [operator.type for operator in graph.get_operations()]


def test_layers_are_traced_with_them_and_as_ever_afterwards() -> None:
    model = network()
    before = kinds(model)
    assert before.count("Conv2D") == 4 and before.count("DepthwiseConv2dNative") == 3
    with quick_convolutions():
        quick = kinds(model)
    assert quick.count("Conv2D") == 1
    assert quick.count("MatMul") == before.count("MatMul") + 3 * 3
    # The depthwise kernel on one pixel is a product; the one of 5 columns has two strips.
    assert quick.count("DepthwiseConv2dNative") == 2
    assert quick.count("DepthwiseConv2dNativeBackpropFilter") == 3
    assert kinds(model) == before


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_training_step_equals_tensorflows(policy: str) -> None:
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3)), tf.float32)
    steps = []
    with precision.policy(policy):
        for way in (nullcontext, quick_convolutions):
            model = network()
            before = model.get_weights()
            model.compile(tf_keras.optimizers.legacy.SGD(0.1), tf_keras.losses.SparseCategoricalCrossentropy(True))
            with way():
                model.fit(images, tf.range(16) % 10, batch_size=16, verbose=0)
            steps.append([after - old for after, old in zip(model.get_weights(), before, strict=True)])
    for own, quick in zip(*steps, strict=True):
        assert np.abs(own).max() > 0
        error = np.linalg.norm(quick - own) / np.linalg.norm(own)
        assert error < (1e-4 if policy == "float32" else 0.05)


@pytest.mark.parametrize("fast", [True, False])
def test_every_fit_uses_them_unless_they_are_switched_off(fast: bool) -> None:
    seen: list[Any] = []
    own = nn.convolution

    def look(images: Any) -> Any:
        seen.append(nn.convolution)
        return images

    flat = [tf_keras.layers.Lambda(look), tf_keras.layers.Flatten(), tf_keras.layers.Dense(10)]
    model = tf_keras.Sequential([tf_keras.layers.Input((8, 8, 3)), *flat])
    del seen[:]
    trainer = context(epochs=1).trainer
    trainer.settings = replace(trainer.settings, fast_convolutions=fast)
    trainer.fit(model)
    assert seen and (own in seen) is not fast
    assert nn.convolution is own


def test_error_restores_tensorflows_functions() -> None:
    own = nn.convolution, nn.depthwise_conv2d
    with pytest.raises(KeyError), quick_convolutions():
        raise KeyError
    assert (nn.convolution, nn.depthwise_conv2d) == own


def test_gpu_uses_tensorflows_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "gpus", lambda: ["NVIDIA A100"])
    own = nn.convolution, nn.depthwise_conv2d
    with quick_convolutions():
        assert (nn.convolution, nn.depthwise_conv2d) == own
