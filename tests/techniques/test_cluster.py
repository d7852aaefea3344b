"""Kernels that share a few values, down to the exported model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.litert.kernels import kernels, sparsity
from pipelines.litert.size import compressed_bytes
from pipelines.models.checkpoint import duplicate
from pipelines.techniques.base import Candidate, Chain, EffectError
from pipelines.techniques.cluster import Cluster
from pipelines.techniques.cluster_wrapper import nearest, refined
from pipelines.techniques.effects import chosen_kernels
from pipelines.techniques.folding import mirror
from pipelines.techniques.quantize import Quantize
from pipelines.techniques.quantize_aware import QuantizeAware
from tests.conftest import context, exported, exported_accuracy, small_data, through
from tests.techniques.test_prune import prune


def cluster(**changed: Any) -> Cluster:
    fields: dict[str, Any] = {
        "clusters": 16,
        "initialization": "kmeans++",
        "per_channel": False,
        "preserve_sparsity": False,
        "skip": None,
        "epochs": 2,
        "learning_rate": 1e-3,
    }
    return Cluster(**fields | changed)


SPARSE = prune(sparsity=0.9, epochs=2)


@pytest.fixture(scope="module")
def sparse(trained_once: Candidate) -> Candidate:
    """A network of which a tenth of the weights is left."""
    return SPARSE.apply(Candidate(model=duplicate(trained_once.model)), context(2))


def values(exported_model: Path) -> list[int]:
    """The largest number of distinct values in any output channel, by kernel."""
    return [max(len(np.unique(channel)) for channel in kernel.values) for kernel in kernels(exported_model)]


@pytest.mark.slow
@pytest.mark.parametrize("initialization", ["linear", "density"])
def test_other_places_to_begin(initialization: str, trained: Candidate) -> None:
    technique = cluster(initialization=initialization, skip="(?!block3)", epochs=1)
    kernel = technique.apply(trained, context(1)).model.get_layer("block3_conv").kernel
    assert 8 < len(np.unique(kernel)) <= 16


@pytest.mark.slow
def test_sixteen_values(trained: Candidate, exported_baseline: Path, tmp_path: Path) -> None:
    technique = cluster()
    names = [layer.name for layer in trained.model.layers]
    done = technique.apply(trained, context(2))
    exported_model = exported(done, tmp_path / "model.tflite")
    technique.verify(done, exported_model)
    assert max(values(exported_model)) <= 16
    head = kernels(exported_model)[-1].values
    assert len(np.unique(head)) <= 16, "no normalization follows the head, so it holds in the whole kernel"
    for layer in done.model.layers:
        if type(layer).__name__ == "Conv2D":
            assert 8 < len(np.unique(layer.kernel)) <= 16
    assert compressed_bytes(exported_model) < 0.45 * compressed_bytes(exported_baseline)
    assert exported_accuracy(exported_model) > 0.85
    assert [layer.name for layer in done.model.layers] == names
    with pytest.raises(EffectError, match="promised at most 16 values in"):
        technique.verify(done, exported_baseline)


@pytest.mark.slow
def test_values_of_each_channel(trained: Candidate, tmp_path: Path) -> None:
    technique = cluster(per_channel=True, clusters=8)
    done = technique.apply(trained, context(2))
    exported_model = exported(done, tmp_path / "model.tflite")
    technique.verify(done, exported_model)
    assert max(values(exported_model)) <= 8
    kernel = done.model.get_layer("block3_conv").kernel.numpy()
    assert len(np.unique(kernel)) > 8 * 32
    assert exported_accuracy(exported_model) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("per_channel", [False, True])
def test_no_cluster_is_lost_beside_the_zeros(per_channel: bool, trained: Candidate) -> None:
    """0 is one of the values, and the others keep their weights."""
    layer = trained.model.get_layer("block3_conv")
    kernel = layer.kernel.numpy()
    layer.kernel.assign(np.where(abs(kernel) < np.median(abs(kernel)), 0, kernel))
    zeros = layer.kernel.numpy() == 0
    technique = cluster(clusters=8, preserve_sparsity=True, per_channel=per_channel, skip="(?!block3)", epochs=1)
    clustered = technique.apply(trained, context(1)).model.get_layer("block3_conv").kernel.numpy()
    assert (clustered[zeros] == 0).all() and (clustered == 0).mean() < 0.55
    channels = np.moveaxis(clustered, -1, 0) if per_channel else clustered[None]
    assert {len(np.unique(channel)) for channel in channels} == {8}


@pytest.mark.slow
def test_skipped_and_small_kernels_are_not_clustered(trained: Candidate, tmp_path: Path) -> None:
    technique = cluster(skip="block3|head_", clusters=256, epochs=1)
    done = technique.apply(trained, context(1))
    assert len(np.unique(done.model.get_layer("block3_conv").kernel)) > 1000
    assert len(np.unique(done.model.get_layer("block4_conv").kernel)) <= 256
    technique.verify(done, exported(done, tmp_path / "model.tflite"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"clusters": 2}, "technique.clusters must be a whole number of at least 3"),
        ({"clusters": 257}, "technique.clusters must be at most 256"),
        ({"initialization": "guess"}, "technique.initialization must be one of"),
        ({"per_channel": 1}, "technique.per_channel must be true or false"),
        ({"preserve_sparsity": "no"}, "technique.preserve_sparsity must be true or false"),
        ({"skip": 3}, "technique.skip must be a regular expression"),
        ({"epochs": 0}, "technique.epochs must be"),
        ({"learning_rate": 0}, "technique.learning_rate must be"),
    ],
)
def test_bad_values(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cluster(**changed)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"per_channel": True, "skip": "head_"}, {"clusters": 256}], ids=["few", "many"])
def test_zeros_survive_where_few_weights_are_left(changed: dict, sparse: Candidate, tmp_path: Path) -> None:
    chain = Chain(steps={"prune": SPARSE, "cluster": cluster(preserve_sparsity=True, epochs=1, **changed)})
    done = through(chain, Candidate(model=duplicate(sparse.model)), context(2), after=1)
    exported_model = exported(done, tmp_path / "model.tflite")
    chain.verify(done, exported_model)
    assert sparsity(exported_model) == pytest.approx(0.9, abs=0.02)
    assert all(layer.trainable for layer in done.model.layers)


def test_clustering_nothing_is_refused(trained: Candidate) -> None:
    with pytest.raises(ValueError, match="cluster found no kernel to cluster"):
        cluster(skip=".").check_network(lambda: trained.model)
    with pytest.raises(ValueError, match="cluster found no kernel to cluster"):
        cluster(skip=".").apply(trained, context(1))


@pytest.mark.slow
def test_values_are_those_of_k_means(trained: Candidate) -> None:
    """tfmot's k-means++ only chooses some of the weights."""
    kernel = trained.model.get_layer("block3_conv").kernel.numpy()

    def error(centroids: np.ndarray) -> float:
        return float(np.square(kernel[..., None] - centroids).min(axis=-1).mean())

    chosen = np.random.default_rng(0).choice(kernel.reshape(-1), 16, replace=False)
    means = refined(chosen, kernel, zeros=False)
    assert error(means) < 0.8 * error(chosen)
    np.testing.assert_allclose(refined(means, kernel, zeros=False), means, rtol=1e-6)
    pruned = np.where(abs(kernel) < np.median(abs(kernel)), 0, kernel)
    with_zero = refined(np.append(0, chosen[1:]).astype(np.float32), pruned, zeros=True)
    assert (with_zero == 0).sum() == 1


@pytest.mark.parametrize("count", [16, 64])
def test_nearest_value(count: int) -> None:
    import tensorflow as tf

    values = np.random.default_rng(0).normal(size=count).astype(np.float32)  # in no order
    kernel = np.random.default_rng(1).normal(size=(3, 3, 8, 16)).astype(np.float32)
    expected = abs(kernel[..., None] - values).argmin(axis=-1)
    np.testing.assert_array_equal(nearest(tf.constant(kernel), tf.constant(values)), expected)
    by_channel = np.random.default_rng(2).normal(size=(16, count)).astype(np.float32)
    expected = abs(kernel[..., None] - by_channel).argmin(axis=-1)
    np.testing.assert_array_equal(nearest(tf.constant(kernel), tf.constant(by_channel)), expected)


@pytest.mark.slow
def test_mirrored_network_gives_the_same_answers(trained: Candidate) -> None:
    data, _ = small_data()
    images = data.test.images[:20].astype(np.float32)
    normalization = trained.model.get_layer("block2_bn")
    normalization.gamma.assign(normalization.gamma * np.resize([1, -1], normalization.gamma.shape))
    before = trained.model(images, training=False).numpy()
    mirror(trained.model)
    np.testing.assert_allclose(trained.model(images, training=False), before, rtol=1e-4, atol=1e-4)
    assert normalization.gamma.numpy().min() >= 0


@pytest.mark.slow
@pytest.mark.parametrize("last", ["quantize", "qat"])
def test_integers_have_the_clusters_in_the_whole_kernel(last: str, trained: Candidate, tmp_path: Path) -> None:
    """Also where normalizations had negative scales, and where their scales are trained on."""
    for block in range(1, 5):
        convolution, normalization = (trained.model.get_layer(f"block{block}_{part}") for part in ("conv", "bn"))
        signs = np.resize([1, -1], normalization.gamma.shape)
        for weight in (*convolution.weights, normalization.gamma, normalization.moving_mean):
            weight.assign(weight * signs)
    qat = QuantizeAware(epochs=1, learning_rate=1e-4, preserve="clusters")
    int8 = Quantize(scheme="int8", calibration_images=50)
    chain = Chain(steps={"cluster": cluster(), "last": qat if last == "qat" else int8})
    done = through(chain, trained, context(2))
    exported_model = exported(done, tmp_path / "model.tflite")
    chain.verify(done, exported_model)
    found = [len(np.unique(kernel.values)) for kernel in kernels(exported_model)]
    assert max(found) <= 17, "0 may come on top"
    assert min(found) > 8
    assert exported_accuracy(exported_model) > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("between", ["Dropout", "GaussianNoise", "ReLU"])
def test_head_behind_a_batch_normalization(between: str, tmp_path: Path) -> None:
    """The converter multiplies the normalization into the head: a usual head of a transferred network."""
    import tf_keras

    layers = tf_keras.layers
    data, _ = small_data()
    images = layers.Input(data.image_shape)
    x = layers.Conv2D(32, 3, activation="relu", name="conv")(layers.Rescaling(1 / 255)(images))
    x = layers.BatchNormalization()(layers.GlobalAveragePooling2D()(x))
    x = getattr(layers, between)(*([] if between == "ReLU" else [0.1]))(x)
    network = tf_keras.Model(images, layers.Dense(10, name="head_logits")(x))
    technique = cluster(epochs=1)
    done = technique.apply(Candidate(model=network), context(1))
    clustered = {name for name, kernel in chosen_kernels(done.model).items() if len(np.unique(kernel)) <= 16}
    assert clustered == ({"conv", "head_logits"} if between == "ReLU" else {"conv"})
    technique.verify(done, exported(done, tmp_path / "model.tflite"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["few weights", "mirrored"])
def test_integers_of_unusual_networks(kind: str, tmp_path: Path) -> None:
    import tf_keras

    layers = tf_keras.layers
    data, _ = small_data()
    images = layers.Input(data.image_shape)
    x = layers.Conv2D(32, 1, name="narrow")(layers.Rescaling(1 / 255)(images))
    if kind == "mirrored":
        x = layers.Rescaling(np.resize([-2.0, 0.5, 1.0], 32).tolist())(x)
    x = layers.Conv2D(32, 3, activation="relu", name="wide")(layers.ReLU()(x))
    network = tf_keras.Model(images, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    steps = {"cluster": cluster(epochs=1), "last": Quantize(scheme="int8", calibration_images=50)}
    chain = Chain(steps=steps)
    done = through(chain, Candidate(model=network), context(1))
    chain.verify(done, exported(done, tmp_path / "model.tflite"))
