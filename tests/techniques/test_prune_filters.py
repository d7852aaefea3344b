"""Filters that leave the network and the file: what is left computes what it did, with less."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.litert.kernels import kernels
from pipelines.models import channels, complexity
from pipelines.models.base import Model
from pipelines.models.efficientnet import EfficientNet
from pipelines.models.efficientnet_lite import EfficientNetLite
from pipelines.models.mobilenet import MobileNetV2
from pipelines.models.resnet import ResNet
from pipelines.models.small_cnn import SmallCNN
from pipelines.models.vgg import VGG
from pipelines.techniques.base import Candidate, Chain, EffectError
from pipelines.techniques.prune_filters import PruneFilters
from pipelines.techniques.quantize import Quantize
from tests.conftest import context, exported, exported_accuracy, through

SETTINGS: dict[str, Any] = {"weights": None, "input_size": None, "dropout": 0.1, "onednn": True}
SMALL = SmallCNN(width=32, **SETTINGS)
RESNET50 = ResNet(depth=50, **SETTINGS)
MOBILENET_V2 = MobileNetV2(**SETTINGS)
EFFICIENTNET_B0 = EfficientNet(variant=0, **SETTINGS)


@cache
def built(network: Model) -> Any:
    """The network for images of 32 pixels and ten classes, built once."""
    return network.build((32, 32, 3), 10)


def prune_filters(**changed: Any) -> PruneFilters:
    return PruneFilters(**({"fraction": 0.5, "skip": None, "epochs": 3, "learning_rate": 3e-3} | changed))


def with_dead_channels(model: Any, fraction: float, images: np.ndarray) -> dict[str, set[int]]:
    """Silence a share of the channels of each group, by group, and normalize what the others give for the images."""
    random = np.random.default_rng(0)
    found = channels.groups(model)
    sizes = {group: model.get_layer(names[0]).filters for group, names in found.producers.items()}
    dead = {group: random.permutation(size)[: round(fraction * size)] for group, size in sizes.items()}
    for layer in model.layers:
        kind = type(layer).__name__
        silent: Any = dead.get(found.given[layer.name], [])
        if kind in ("Conv2D", "BatchNormalization", "Dense"):
            # Kernel and bias, or scale and shift; the statistics matter to no channel whose scale and shift are 0.
            *rest, last = layer.get_weights()[:2]
            if last.ndim == 1:
                last += random.uniform(0.0, 0.2, last.shape).astype(np.float32)
            for weight in (*rest, last):
                weight[..., silent] = 0
            layer.set_weights([*rest, last, *layer.get_weights()[2:]])
        if kind == "BatchNormalization":
            layer.momentum = 0.0
    model(images, training=True)
    return {group: set(indices.tolist()) for group, indices in dead.items()}


@pytest.mark.slow
@pytest.mark.parametrize("network", [SMALL, RESNET50, MOBILENET_V2, EFFICIENTNET_B0], ids=lambda one: one.name)
def test_removing_zero_channels_keeps_the_outputs(network: Model) -> None:
    images = np.random.default_rng(1).uniform(0, 255, (16, 32, 32, 3)).astype(np.float32)
    model = built(network)
    dead = with_dead_channels(model, 0.25, images)
    kept = prune_filters(fraction=0.25).kept(model)
    assert kept.keys() == dead.keys()
    for group, left in kept.items():
        assert set(left.tolist()) == set(range(len(left) + len(dead[group]))) - dead[group]
    pruned = channels.narrowed(model, kept)
    assert [layer.name for layer in pruned.layers] == [layer.name for layer in model.layers]
    assert complexity.macs(pruned) < 0.65 * complexity.macs(model)

    def differs(other: Any) -> float:
        """Largest difference of the logits, of their spread over the images."""
        expected = model(images, training=False).numpy()
        return float(np.abs(other(images, training=False).numpy() - expected).max() / np.ptp(expected, axis=0).max())

    assert differs(pruned) < 1e-4
    if network is not SMALL:
        return
    # One channel more, and it is another network.
    group = next(iter(kept))
    assert differs(channels.narrowed(model, {**kept, group: kept[group][1:]})) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "together", "apart"),
    [
        (SMALL, [["block1_conv"], ["block5_conv"]], ["block1_conv", "block2_conv", "block3_conv"]),
        (VGG(depth=16, **SETTINGS), [["block1_conv1"]], ["block1_conv1", "block1_conv2", "block5_conv3"]),
        (
            RESNET50,
            [["conv2_block1_0_conv", "conv2_block1_3_conv", "conv2_block2_3_conv", "conv2_block3_3_conv"]],
            ["conv1_conv", "conv2_block1_1_conv", "conv2_block1_3_conv", "conv3_block1_3_conv"],
        ),
        (
            MOBILENET_V2,
            [["block_1_project", "block_2_project"], ["block_1_expand"]],
            ["block_1_project", "block_3_project", "Conv_1"],
        ),
        (
            EFFICIENTNET_B0,
            [["stem_conv", "block1a_se_expand"], ["block2a_expand_conv", "block2a_se_expand"], ["block2a_se_reduce"]],
            ["stem_conv", "block2a_expand_conv", "block2a_project_conv", "block2b_expand_conv"],
        ),
        (
            EfficientNetLite(variant=0, **SETTINGS),
            [["block2a_project_conv", "block2b_project_conv"]],
            ["stem_conv", "block1a_project_conv", "block2a_project_conv"],
        ),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
def test_groups(network: Model, together: list[list[str]], apart: list[str]) -> None:
    model = built(network)
    found = channels.groups(model)
    for names in together:
        assert sorted(found.producers[found.given[names[0]]]) == sorted(names)
    assert len({found.given[name] for name in apart}) == len(apart)
    # All but the logits can be pruned.
    convolutions = {layer.name for layer in model.layers if type(layer).__name__ == "Conv2D"}
    assert {name for names in found.producers.values() for name in names} == convolutions


def graph(*middle: Callable[[Any], Any]) -> Any:
    """A convolution of 8 filters named `first`, what is in the middle, a convolution `last`, and logits."""
    import tf_keras

    x = images = tf_keras.layers.Input((6, 6, 3))
    x = tf_keras.layers.Conv2D(8, 3, name="first")(x)
    for layer in middle:
        x = layer(x)
    x = tf_keras.layers.Conv2D(6, 1, name="last")(x)
    x = tf_keras.layers.GlobalAveragePooling2D()(x)
    return tf_keras.Model(images, tf_keras.layers.Dense(10)(x))


@pytest.mark.parametrize("name", ["unknown", "softmax", "grouped", "multiplied", "broadcast", "mixed"])
def test_channels_that_a_layer_mixes_stay_whole(name: str) -> None:
    from tf_keras import layers

    def broadcast(x: Any) -> Any:
        return layers.Multiply()([x, layers.Conv2D(1, 1)(x)])

    middle = {
        "unknown": layers.LayerNormalization(),
        "softmax": layers.Activation("softmax"),
        "grouped": layers.Conv2D(8, 1, groups=2),
        "multiplied": layers.DepthwiseConv2D(3, depth_multiplier=2),
        "broadcast": broadcast,
        "mixed": layers.Reshape((4, 8, 4)),
    }
    model = graph(middle[name])
    assert [names for names in channels.groups(model).producers.values()] == [("last",)]
    assert [names for names in channels.groups(graph()).producers.values()] == [("first",), ("last",)]
    pruned = channels.narrowed(model, prune_filters().kept(model))
    assert (pruned.get_layer("first").filters, pruned.get_layer("last").filters) == (8, 3)
    assert pruned(np.zeros((1, 6, 6, 3))).shape == (1, 10)


@pytest.mark.parametrize("name", ["leaky", "elu", "noise", "dropped", "scaled", "larger", "average"])
def test_channels_pass_through_layers_of_their_own(name: str) -> None:
    from tf_keras import layers

    middle = {
        "leaky": layers.LeakyReLU(),
        "elu": layers.ELU(),
        "noise": layers.GaussianNoise(0.1),
        "dropped": layers.SpatialDropout2D(0.1),
        "scaled": layers.Rescaling(0.5, offset=1.0),
        "larger": layers.UpSampling2D(),
        "average": lambda x: layers.Average()([x, layers.ReLU()(x)]),
    }
    model = graph(middle[name])
    assert [names for names in channels.groups(model).producers.values()] == [("first",), ("last",)]
    pruned = channels.narrowed(model, prune_filters().kept(model))
    assert (pruned.get_layer("first").filters, pruned.get_layer("last").filters) == (4, 3)
    # A constant for each channel has its place among them.
    by_place = graph(layers.Rescaling([0.5] * 8))
    assert [names for names in channels.groups(by_place).producers.values()] == [("last",)]


def test_unsupported_graphs_are_refused() -> None:
    from tf_keras import layers

    with pytest.raises(ValueError, match=r"must use each layer once, got .* of class TFOpLambda"):
        channels.groups(graph(lambda x: x * 2.0))
    twice = layers.Conv2D(8, 1, name="twice")
    with pytest.raises(ValueError, match="must use each layer once, got twice of class Conv2D"):
        channels.groups(graph(twice, twice))


def test_smallest_filters_are_removed_by_relative_norm() -> None:
    from tf_keras import layers

    def added(x: Any) -> Any:
        return layers.Add()([layers.Conv2D(4, 1, name="left")(x), layers.Conv2D(4, 1, name="right")(x)])

    model = graph(added)
    left, right = (np.ones((1, 1, 8, 4), np.float32) for _ in range(2))
    # Relative to their means, the norms are 0.8 0.8 0.8 1.6 on the left and 0 2 1 1 on the right: the third scores 1.8.
    left *= [100, 100, 100, 200]
    right *= [0, -2, 1, 1]
    for name, kernel in (("left", left), ("right", right)):
        model.get_layer(name).set_weights([kernel, np.arange(4.0)])
    group = channels.groups(model).given["left"]
    assert prune_filters(fraction=0.25).kept(model)[group].tolist() == [1, 2, 3]
    assert prune_filters(fraction=0.5).kept(model)[group].tolist() == [1, 3]
    assert prune_filters(fraction=0.99).kept(model)[group].tolist() == [1]
    pruned = channels.narrowed(model, prune_filters(fraction=0.5).kept(model))
    kernel, bias = pruned.get_layer("left").get_weights()
    assert bias.tolist() == [1.0, 3.0]
    assert kernel[0, 0, 0].tolist() == [100.0, 200.0]


@pytest.mark.slow
def test_exported_model_is_smaller_and_accurate(trained: Candidate, exported_baseline: Path, tmp_path: Path) -> None:
    technique, it = prune_filters(), context()
    done = technique.apply(trained, it)
    exported_model = exported(done, tmp_path / "model.tflite")
    technique.verify(done, exported_model)
    assert len(it.trainer.epochs) == 3
    assert done.metrics["prune/filters_removed_share"] == 0.5
    # Of 32 -> 32 -> 64 -> 64 -> 128 filters every second is left; the first layer keeps its 3 inputs.
    assert [kernel.values.shape for kernel in kernels(exported_model)] == [
        (16, 3, 3, 3),
        (16, 3, 3, 16),
        (32, 3, 3, 16),
        (32, 3, 3, 32),
        (64, 1, 1, 32),
        (10, 64),
    ]
    assert 0.25 < done.metrics["prune/parameters_share"] < 0.28
    assert 0.25 < done.metrics["prune/macs_share"] < 0.30
    assert exported_model.stat().st_size < 0.35 * exported_baseline.stat().st_size
    assert exported_accuracy(exported_model) > 0.85
    assert complexity.macs(trained.model) > complexity.macs(done.model), "the parent's own network is left as it was"
    with pytest.raises(EffectError, match=r"must export 6 kernels; the file lacks 5 \(one has .* and also has 5 \(one"):
        technique.verify(done, exported_baseline)


@pytest.mark.slow
def test_skipped_groups_stay_whole(trained: Candidate) -> None:
    technique = prune_filters(skip="block[15]_conv", epochs=1)
    filters = {
        layer.name: layer.filters
        for layer in technique.apply(trained, context()).model.layers
        if layer.name.endswith("conv")
    }
    assert filters == {
        "block1_conv": 32, "block2_conv": 16, "block3_conv": 32, "block4_conv": 32, "block5_conv": 128
    }  # fmt: skip


def test_skip_that_matches_no_layer_is_reported(trained: Candidate) -> None:
    told: list[str] = []
    with pytest.raises(ValueError, match="found no filter to remove"):
        prune_filters(fraction=0.001, skip="blok1").apply(trained, replace(context(), report=told.append))
    assert told == [
        "technique.skip leaves out no layer: no name begins with 'blok1' "
        "(block1_conv, block2_conv, block3_conv, block4_conv, block5_conv, head_logits)"
    ]


@pytest.mark.parametrize("changed", [{"skip": "block"}, {"fraction": 0.001}])
def test_nothing_to_prune_is_refused_before_training(changed: dict, trained: Candidate) -> None:
    it = context()
    with pytest.raises(ValueError, match="found no filter to remove"):
        prune_filters(**changed).check_network(lambda: trained.model)
    with pytest.raises(ValueError, match="found no filter to remove"):
        prune_filters(**changed).apply(trained, it)
    assert it.trainer.epochs == []


@pytest.mark.slow
def test_pruned_then_quantized(trained: Candidate, exported_baseline: Path, tmp_path: Path) -> None:
    chain = Chain(steps={"prune": prune_filters(), "quantize": Quantize(scheme="int8", calibration_images=50)})
    assert chain.name == "prune_filters_quantize_int8"
    assert chain.parent.name == "prune_filters"
    done = through(chain, trained, context())
    exported_model = exported(done, tmp_path / "model.tflite")
    chain.verify(done, exported_model)
    assert exported_model.stat().st_size < 0.15 * exported_baseline.stat().st_size
    assert exported_accuracy(exported_model) > 0.85


@pytest.mark.slow
def test_depthwise_and_squeeze_kernels_are_narrowed(tmp_path: Path) -> None:
    """Of the first blocks of EfficientNet."""
    import tf_keras

    technique, whole = prune_filters(), built(EFFICIENTNET_B0)
    x = tf_keras.layers.GlobalAveragePooling2D(name="head_pool")(whole.get_layer("block2b_add").output)
    model = tf_keras.Model(whole.input, tf_keras.layers.Dense(10, name="head_logits")(x))
    pruned = Candidate(model=channels.narrowed(model, technique.kept(model)))
    exported_model = exported(pruned, tmp_path / "model.tflite")
    technique.verify(pruned, exported_model)
    with pytest.raises(EffectError, match=r"must export \d+ kernels; the file lacks"):
        technique.verify(Candidate(model=model), exported_model)


def test_kernels_that_are_stored_in_another_way_are_counted(tmp_path: Path) -> None:
    """Several filters of a channel, and no convolution at all."""
    import tf_keras

    layers = tf_keras.layers
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3, depth_multiplier=2)(x))
    separable = tf_keras.Model(image, layers.Dense(10, name="head_logits")(x))
    technique = prune_filters()
    technique.verify(Candidate(model=separable), exported(Candidate(model=separable), tmp_path / "model.tflite"))
    x = layers.Dense(16, activation="relu")(layers.Flatten()(image))
    dense = tf_keras.Model(image, layers.Dense(10, name="head_logits")(x))
    done = technique.apply(Candidate(model=dense), context(1))
    assert 0 < done.metrics["prune/filters_removed_share"] < 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fraction": 0}, r"technique.fraction must be a fraction in \(0, 1\), got 0"),
        ({"fraction": 1.0}, r"technique.fraction must be a fraction in \(0, 1\), got 1.0"),
        ({"skip": "("}, "technique.skip must be a regular expression"),
        ({"epochs": 0}, "technique.epochs must be a whole number of at least 1"),
        ({"learning_rate": 0}, "technique.learning_rate must be a number, more than 0"),
    ],
)
def test_bad_values(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prune_filters(**changed)
