"""A network without some of its channels: the same answers where they were dead, and smaller down to the file."""

from pathlib import Path

import numpy as np
import pytest

from pipelines.measure.litert import Artifact
from pipelines.models import complexity
from pipelines.models.channels import ChannelGroups
from pipelines.techniques.base import Candidate, EffectError
from pipelines.techniques.prune_filters import PruneFilters
from tests.conftest import artifact_accuracy, context, exported, small_data
from tests.test_config import composed


def prune(**changed: object) -> PruneFilters:
    return PruneFilters(**{"fraction": 0.3, "skip": None, "epochs": None, "learning_rate": 3e-3} | changed)


def build(name: str):
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    size = [] if name == "small_cnn" else ["model.input_size=32"]
    return composed(f"model={name}", "model.weights=null", *size, "technique=baseline").model.build((32, 32, 3), 10)


@pytest.mark.parametrize("name", ["small_cnn", "resnet50", "efficientnet_b0"])
def test_dead_channels_can_go_without_a_trace(name: str) -> None:
    model = build(name)
    groups = ChannelGroups(model)
    kept = {}
    for group in groups.prunable:
        count = groups.producers(group)[0].output_shape[-1]
        dead = np.arange(0, count, 3)
        kept[group] = np.setdiff1d(np.arange(count), dead)
        for layer in model.layers:
            # Whatever gives a channel gives nothing there, so that it makes no difference to what follows.
            if groups.group_of[layer.name] == group and layer.weights:
                _kill(layer, dead)
    smaller = groups.without(kept)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    assert np.allclose(smaller.predict(pixels, verbose=0), model.predict(pixels, verbose=0), rtol=1e-3, atol=1e-4)
    assert complexity.parameters(smaller) < 0.6 * complexity.parameters(model)
    assert [layer.name for layer in smaller.layers] == [layer.name for layer in model.layers]


def _kill(layer: object, dead: np.ndarray) -> None:
    weights = layer.get_weights()
    for weight, variable in zip(weights, layer.weights, strict=True):
        if type(layer).__name__ == "DepthwiseConv2D" and weight.ndim == 4:
            weight[:, :, dead] = 0
        elif "variance" not in variable.name and weight.ndim:
            weight[..., dead] = 0
    layer.set_weights(weights)


@pytest.mark.parametrize("name", ["vgg16", "mobilenet_v2", "efficientnet_b0", "efficientnet_lite0"])
def test_networks_shrink_and_still_answer(name: str) -> None:
    model = build(name)
    smaller = prune()._shrunk(model)
    assert smaller.output_shape == (None, 10)
    assert complexity.parameters(smaller) < 0.65 * complexity.parameters(model)
    assert complexity.macs(smaller) < 0.65 * complexity.macs(model)


def test_the_weakest_filters_go(trained: Candidate) -> None:
    model = trained.model
    kernel = model.get_layer("block3_conv").get_weights()[0]
    left = prune()._shrunk(model).get_layer("block3_conv").get_weights()[0]

    def strongest(kernel: np.ndarray, count: int) -> np.ndarray:
        return np.sort(np.argsort(-np.abs(kernel).sum(axis=(0, 1, 2)))[:count])

    channels = strongest(model.get_layer("block2_conv").get_weights()[0], 32 - int(0.3 * 32))
    filters = strongest(kernel, 64 - int(0.3 * 64))
    assert np.array_equal(left, kernel[:, :, channels][..., filters])


def test_the_artifact_is_smaller_and_good(trained: Candidate, baseline_artifact: Path, tmp_path: Path) -> None:
    technique = prune(fraction=0.5)
    done = technique.apply(trained, context(12))
    artifact = exported(done, tmp_path / "model.tflite")
    technique.verify(done, artifact)
    assert artifact.stat().st_size < 0.4 * baseline_artifact.stat().st_size
    assert artifact_accuracy(artifact) > 0.85
    assert done.metrics["prune/parameters_share"] == pytest.approx(0.26, abs=0.03)
    assert done.metrics["prune/macs_share"] < 0.4
    assert Artifact(artifact).labels == small_data()[0].class_names
    with pytest.raises(EffectError, match="promised kernels of"):
        technique.verify(done, baseline_artifact)


def test_what_is_skipped_stays(trained: Candidate) -> None:
    left = prune(skip="block[12]")._shrunk(trained.model)
    assert left.get_layer("block1_conv").filters == 32
    assert left.get_layer("block2_conv").filters == 32
    assert left.get_layer("block3_conv").filters < 64


def test_nothing_removed_is_an_error(trained: Candidate) -> None:
    with pytest.raises(EffectError, match="removed nothing from small_cnn"):
        prune(skip=".").apply(trained, context(1))


def test_an_unknown_layer_is_named() -> None:
    import tf_keras

    inputs = tf_keras.Input((8, 8, 3))
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(2)(tf_keras.layers.Flatten(name="flat")(inputs)))
    with pytest.raises(ValueError, match="the channels of layer flat, a Flatten, cannot be followed"):
        ChannelGroups(model)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"fraction": 1.0}, "technique.fraction must be a fraction in"),
        ({"skip": "("}, "technique.skip must be a regular expression"),
        ({"epochs": 0}, "technique.epochs must be"),
        ({"learning_rate": 0}, "technique.learning_rate must be"),
    ],
)
def test_bad_values(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prune(**changed)
