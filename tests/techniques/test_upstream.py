"""Faults of tensorflow-model-optimization (tfmot), by number: shown with its own API alone, then the same network here.

A fault that tfmot mends fails its test, so that docs/upstream.md is corrected.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.litert.exported_model import tensor_dtypes
from pipelines.litert.kernels import kernels
from pipelines.models.checkpoint import duplicate
from pipelines.techniques.base import Candidate, Chain
from tests.conftest import context, exported, small_data, through
from tests.models.keras_files import images, library, outputs, saved, settings, softmax
from tests.techniques.test_cluster import cluster
from tests.techniques.test_prune import prune
from tests.techniques.test_quantize_aware import agreement, qat

MENDED = "tfmot no longer has this fault: correct docs/upstream.md and this test"


def fit(model: Any, *callbacks: Any) -> None:
    """An epoch on the small data's raw pixels, in place."""
    import tf_keras

    data, _ = small_data()
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.Adam(1e-3), loss)
    pixels = data.train.images.astype(np.float32)
    model.fit(pixels, data.train.labels, batch_size=32, verbose=0, callbacks=list(callbacks))


def refusal(call: Callable[[], Any]) -> str:
    """The message with which tfmot refuses."""
    try:
        call()
    except (RuntimeError, ValueError) as error:
        return str(error)
    pytest.fail(MENDED)


def clustered(model: Any, clusters: int, *, preserve_sparsity: bool) -> Any:
    """By tfmot: whole kernels of `clusters` values."""
    from tensorflow_model_optimization import clustering

    start = clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
    wrapped = clustering.keras.cluster_weights(model, clusters, start, preserve_sparsity=preserve_sparsity)
    fit(wrapped)
    return clustering.keras.strip_clustering(wrapped)


def cluster_preserving(model: Any, *, preserve_sparsity: bool) -> Any:
    """By tfmot: after CQAT, or with `preserve_sparsity` PCQAT."""
    import tensorflow_model_optimization as tfmot

    combine = tfmot.experimental.combine
    scheme = combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity)
    wrapped = tfmot.quantization.keras.quantize_apply(tfmot.quantization.keras.quantize_annotate_model(model), scheme)
    fit(wrapped)
    return combine.strip_clustering_cqat(wrapped)


def kernels_of(model: Any) -> dict[str, np.ndarray]:
    """Kernels of convolutions and dense layers, by the names of the layers without tfmot's wrappers."""
    named = {getattr(layer, "layer", layer).name: layer for layer in model.layers}
    found = {name: [one for one in layer.weights if one.name.endswith("kernel:0")] for name, layer in named.items()}
    return {name: variables[0].numpy() for name, variables in found.items() if variables}


def distinct(kernel: np.ndarray) -> int:
    return len(np.unique(kernel))


def residual_network() -> Any:
    """A bottleneck of ResNet50, narrow."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers

    def convolution(x: Any, name: str, filters: int, size: int) -> Any:
        return layers.BatchNormalization()(layers.Conv2D(filters, size, padding="same", name=name)(x))

    data, _ = small_data()
    pixels = layers.Input(data.image_shape)
    before = layers.ReLU()(convolution(pixels, "stem", 8, 3))
    x = layers.ReLU()(convolution(before, "reduce", 8, 1))
    x = layers.ReLU()(convolution(x, "middle", 8, 3))
    x = layers.ReLU()(layers.Add()([before, convolution(x, "expand", 8, 1)]))
    return tf_keras.Model(pixels, layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(x)))


@pytest.mark.slow
def test_1056_cqat_keeps_clusters_of_a_residual_network(tmp_path: Path) -> None:
    network, clusters = residual_network(), 8
    model = clustered(duplicate(network), clusters, preserve_sparsity=False)
    before = kernels_of(model)
    assert max(map(distinct, before.values())) <= clusters
    preserved = cluster_preserving(model, preserve_sparsity=False)
    lost = {name for name, kernel in kernels_of(preserved).items() if distinct(kernel) > clusters}
    assert lost, MENDED
    # Channels with almost equally many values pass for channels that were clustered one by one.
    convolutions = {name: kernel for name, kernel in before.items() if kernel.ndim == 4}
    counts = {name: [distinct(channel) for channel in kernel.T] for name, kernel in convolutions.items()}
    assert lost == {name for name, found in counts.items() if np.ptp(found) <= 1}, MENDED
    # Filters whose largest weights are of different clusters have different integers for each cluster.
    file = exported(Candidate(model=preserved, fake_quantized=preserved), tmp_path / "tfmot.tflite")
    integers = {name: distinct(kernel.values) for name, kernel in zip(before, kernels(file), strict=True)}
    kept = convolutions.keys() - lost
    assert kept and max(integers[name] for name in kept) > clusters + 1, MENDED

    steps = {"cluster": cluster(clusters=clusters, epochs=1), "qat": qat(preserve="clusters", epochs=1)}
    chain = Chain(steps=steps, alias="cqat")
    done = through(chain, Candidate(model=network), context(2))
    assert max(map(distinct, kernels_of(done.model).values())) <= clusters
    exported_model = exported(done, tmp_path / "model.tflite")
    chain.verify(done, exported_model)
    assert max(distinct(kernel.values) for kernel in kernels(exported_model)) <= clusters + 1, "0 may come on top"


def pointwise_network() -> Any:
    """Convolutions of 1x1 over one channel and over two."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    data, _ = small_data()
    pixels = layers.Input(data.image_shape)
    x = layers.BatchNormalization()(layers.Conv2D(1, 3, name="one")(pixels))
    x = layers.Conv2D(32, 1, activation="relu", name="from_one")(x)
    x = layers.BatchNormalization()(layers.Conv2D(2, 1, name="two")(x))
    x = layers.Conv2D(32, 1, activation="relu", name="from_two")(x)
    return tf_keras.Model(pixels, layers.Dense(10)(layers.Flatten()(x)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No clustering performed on layer quant_from_one")
def test_979_pcqat_keeps_weights_of_1x1_convolutions(tmp_path: Path) -> None:
    from tensorflow_model_optimization import sparsity

    network, clusters = pointwise_network(), 4
    schedule = sparsity.keras.ConstantSparsity(0.5, begin_step=0, frequency=1)
    pruning = sparsity.keras.prune_low_magnitude(duplicate(network), pruning_schedule=schedule)
    fit(pruning, sparsity.keras.UpdatePruningStep())
    model = clustered(sparsity.keras.strip_pruning(pruning), clusters, preserve_sparsity=True)
    before, after = (
        {name: kernel.reshape(-1, kernel.shape[-1]) for name, kernel in kernels_of(one).items()}
        for one in (model, cluster_preserving(model, preserve_sparsity=True))
    )
    # The smallest value of each filter is taken for that of the zeros; these filters have no other.
    of_one_value = (before["from_two"][0] == before["from_two"][1]) & before["from_two"].all(axis=0)
    assert of_one_value.any()
    assert not after["from_two"][:, of_one_value].any(), MENDED
    # Filters of one weight, as in the issue, are no longer emptied. Their clusters are lost.
    np.testing.assert_array_equal(after["from_one"] != 0, before["from_one"] != 0)
    assert distinct(before["from_one"]) <= clusters < distinct(after["from_one"]), MENDED

    steps = {
        "prune": prune(sparsity=0.5, epochs=2),
        "cluster": cluster(clusters=clusters, preserve_sparsity=True, epochs=1),
        "qat": qat(preserve="sparsity_and_clusters", epochs=1),
    }
    chain = Chain(steps=steps, alias="pcqat")
    done = through(chain, Candidate(model=network), context(2))
    exported_model = exported(done, tmp_path / "model.tflite")
    chain.verify(done, exported_model)
    stored = [one.values.reshape(32, -1) for one in kernels(exported_model) if one.values.shape[:3] == (32, 1, 1)]
    for name, values in zip(("from_one", "from_two"), stored, strict=True):
        kernel = kernels_of(done.model)[name]
        assert np.count_nonzero(kernel) == kernel.size / 2 and distinct(kernel) <= clusters
        np.testing.assert_array_equal(values != 0, kernel.reshape(-1, 32).T != 0)


def mobile_network() -> Any:
    """A block of EfficientNet behind its preprocessing: swish, squeeze and excitation."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    layers = tf_keras.layers
    data, _ = small_data()
    pixels = layers.Input(data.image_shape)
    x = layers.Normalization(name="normalization")(layers.Rescaling(1 / 255, name="rescaling")(pixels))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, use_bias=False)(layers.ZeroPadding2D()(x))
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    gate = layers.Reshape((1, 1, 16))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(16, 1, activation="sigmoid")(layers.Conv2D(4, 1, activation="swish")(gate))
    x = layers.Conv2D(32, 1, use_bias=False)(layers.Multiply()([x, gate]))
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
    network = tf_keras.Model(pixels, layers.Dense(10, name="logits")(x))
    network.get_layer("normalization").set_weights([np.full(3, 0.4), np.full(3, 0.1), np.array(0)])
    return network


@pytest.mark.slow
def test_647_qat_takes_efficientnet(tmp_path: Path) -> None:
    import tensorflow_model_optimization as tfmot
    import tf_keras

    keras = tfmot.quantization.keras
    network = mobile_network()
    message = refusal(lambda: keras.quantize_model(duplicate(network)))
    assert re.match(r"Layer rescaling:<class '.*Rescaling'> is not supported\. You can quantize this layer by", message)
    # The usual way round: annotate what tfmot takes, and leave out what it refuses.
    refused: list[str] = []

    def annotate(layer: Any) -> Any:
        kind = type(layer).__name__
        return layer if kind in ("InputLayer", *refused) else keras.quantize_annotate_layer(layer)

    around = None
    while around is None:
        annotated = tf_keras.models.clone_model(duplicate(network), clone_function=annotate)
        try:
            around = keras.quantize_apply(annotated)
        except RuntimeError as error:
            found = re.search(r"\.(\w+)'> is not supported", str(error))
            assert found and found[1] not in refused, error
            refused.append(found[1])
    assert refused == ["Rescaling", "Normalization", "Multiply"], MENDED
    fit(around)
    left = exported(Candidate(model=around, fake_quantized=around), tmp_path / "tfmot.tflite")
    assert "float32" in tensor_dtypes(left), MENDED

    technique = qat()
    done = technique.apply(Candidate(model=network), context(2))
    exported_model = exported(done, tmp_path / "model.tflite")
    technique.verify(done, exported_model)
    assert agreement(done, exported_model)[0] >= 0.95


@pytest.mark.slow
def test_1119_keras_3_models_are_optimized(tmp_path: Path) -> None:
    import tensorflow_model_optimization as tfmot

    keras, (data, _) = library(3), small_data()
    layers = keras.layers
    keras.utils.set_random_seed(0)
    middle = [layers.Rescaling(1 / 255), layers.Conv2D(16, 3, activation="relu"), layers.Flatten()]
    model = keras.Sequential([keras.Input(data.image_shape), *middle, layers.Dense(10, activation="softmax")])
    assert keras.__version__.startswith("3.")
    message = refusal(lambda: tfmot.quantization.keras.quantize_model(model))
    assert message == "`to_quantize` can only either be a keras Sequential or Functional model."
    message = refusal(lambda: tfmot.sparsity.keras.prune_low_magnitude(model))
    assert message.startswith("`prune_low_magnitude` can only prune an object of the following types: keras.models.")
    linear = tfmot.clustering.keras.CentroidInitialization.LINEAR
    assert tfmot.clustering.keras.cluster_weights(model, 8, linear) is None, MENDED

    network = settings(saved(model, tmp_path / "digits.keras")).build(data.image_shape, 10)
    batch = images(data.image_shape)
    np.testing.assert_allclose(softmax(outputs(network, batch)), outputs(model, batch), atol=1e-5)
    technique = qat(epochs=1)
    done = technique.apply(Candidate(model=network), context(1))
    technique.verify(done, exported(done, tmp_path / "model.tflite"))
