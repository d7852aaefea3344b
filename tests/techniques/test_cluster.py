"""Kernels that share a few values, down to the exported model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.litert.kernels import kernels, sparsity
from pipelines.litert.size import compressed_bytes
from pipelines.techniques.base import Candidate, Chain, EffectError
from pipelines.techniques.cluster import Cluster
from tests.conftest import context, exported, exported_accuracy, through
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


def values(exported_model: Path) -> list[int]:
    """The largest number of distinct values in any output channel, by kernel."""
    return [max(len(np.unique(channel)) for channel in kernel.values) for kernel in kernels(exported_model)]


@pytest.mark.slow
@pytest.mark.parametrize("initialization", ["kmeans++", "linear", "density"])
def test_sixteen_values(initialization: str, trained: Candidate, exported_baseline: Path, tmp_path: Path) -> None:
    technique = cluster(initialization=initialization)
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
    with pytest.raises(EffectError, match="promised at most 16 values a channel"):
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
def test_zeros_survive_clustering(trained: Candidate, tmp_path: Path) -> None:
    chain = Chain(steps={"prune": prune(epochs=6), "cluster": cluster(preserve_sparsity=True)})
    done = through(chain, trained, context(6))
    exported_model = exported(done, tmp_path / "model.tflite")
    chain.verify(done, exported_model)
    assert sparsity(exported_model) == pytest.approx(0.7, abs=0.02)
    assert max(values(exported_model)) <= 16
    assert chain.name == "prune_cluster"


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
@pytest.mark.parametrize(
    "changed", [{"per_channel": True}, {"clusters": 256}, {"skip": "head_"}], ids=["per_channel", "many", "skip"]
)
def test_zeros_survive_where_few_weights_are_left(changed: dict, trained: Candidate, tmp_path: Path) -> None:
    steps = {"prune": prune(sparsity=0.9, epochs=2), "cluster": cluster(preserve_sparsity=True, epochs=1, **changed)}
    chain = Chain(steps=steps)
    done = through(chain, trained, context(2))
    chain.verify(done, exported(done, tmp_path / "model.tflite"))
    assert all(layer.trainable for layer in done.model.layers)


def test_clustering_nothing_is_refused(trained: Candidate) -> None:
    with pytest.raises(EffectError, match="cluster found no kernel to cluster"):
        cluster(skip=".").apply(trained, context(1))
