"""Weights that share a value share an integer of the quantized model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.flatbuffer import packed, parse
from pipelines.litert.kernels import kernels as stored_kernels
from pipelines.litert.labels import without_labels
from pipelines.litert.size import compressed_bytes
from pipelines.quantization import calibration, clusters, integers, weights
from pipelines.quantization.layers import with_kernels
from pipelines.techniques.base import Candidate
from tests.conftest import context, exported, small_data
from tests.techniques.test_cluster import cluster

RANDOM = np.random.default_rng(0)
VALUES = np.sort(RANDOM.normal(size=16))


def clustered(filters: int, size: int, factors: np.ndarray) -> np.ndarray:
    """A kernel of 16 values, its filters multiplied by factors in float32."""
    values = VALUES.astype(np.float32)[RANDOM.integers(0, 16, (filters, size))]
    return values * factors.astype(np.float32)[:, None]


@pytest.mark.parametrize("size", [12, 27, 1152], ids=["a few in a filter", "most", "all"])
def test_codebook_of_filters_with_factors(size: int) -> None:
    factors = RANDOM.normal(size=40)
    kernel = clustered(40, size, factors)
    found = clusters.codebook(kernel)
    assert found is not None
    assert len(found.values) == 16
    # The values as such are not known, only up to a common factor.
    np.testing.assert_allclose(found.values[found.places(kernel)] * found.factors[:, None], kernel, rtol=1e-5)
    ratio = found.factors / factors
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)


def test_few_filters_with_factors() -> None:
    """Their values are few in all as well, but fewer with factors."""
    found = clusters.codebook(clustered(16, 32, RANDOM.uniform(1, 2, 16)))
    assert found is not None
    assert len(found.values) == 16


def test_filters_of_three_weights_without_factors() -> None:
    kernel = clustered(32, 3, np.ones(32))
    found = clusters.codebook(kernel)
    assert found is not None
    assert len(found.values) == len(np.unique(kernel)) <= 16


def test_filter_without_weights_and_filters_with_zeros() -> None:
    kernel = clustered(20, 200, np.ones(20))
    kernel[:, ::2] = 0
    kernel[7] = 0
    found = clusters.codebook(kernel)
    assert found is not None
    assert len(found.values) == 16
    assert 0 not in found.values


def test_filter_of_one_value_is_not_mirrored() -> None:
    """Training can leave a filter without any difference between its weights."""
    kernel = clustered(20, 200, np.linspace(1, 2, 20))
    kernel[5], kernel[6] = 0.3, -0.3
    found = clusters.codebook(kernel)
    assert found is not None
    assert len(found.values) == 16
    assert (found.factors > 0).all()


@pytest.mark.parametrize("shape", [(40, 1152), (64, 64), (10, 16), (3, 4)])
def test_kernel_that_is_not_clustered(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused at a glance: fitting factors took 7 s for a ResNet50."""
    monkeypatch.delattr(clusters, "_fitted")
    assert clusters.codebook(RANDOM.normal(size=shape).astype(np.float32)) is None


def test_pruned_kernel_is_clustered_only_where_its_values_repeat() -> None:
    # Of 864 weights, 173 are left: few enough for a codebook, in which each would have a place of its own.
    kernel = np.random.default_rng(1).normal(size=(32, 27)).astype(np.float32)
    pruned = np.where(abs(kernel) >= np.quantile(abs(kernel), 0.8), kernel, 0)
    assert np.count_nonzero(pruned) == 173 and clusters.codebook(pruned) is None
    few = np.sign(pruned) * np.round(abs(pruned), 1)
    found = clusters.codebook(few)
    # Of values up to a factor for each filter, mirrored ones count once.
    assert found is not None and len(found.values) <= len(np.unique(few[few != 0]))


def test_model_without_clusters_stays_as_it_is(exported_baseline: Path) -> None:
    flatbuffer = without_labels(exported_baseline)
    quantized = weights.int8_weights(flatbuffer, weights.FILTERS)
    assert clusters.with_shared_codes(quantized, clusters.kernels(flatbuffer)) is quantized


@pytest.fixture(scope="module")
def float_model(trained_once: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clustered, with batch normalizations of either sign and any size folded in since."""
    from pipelines.models import checkpoint

    technique = cluster(epochs=1)
    done = technique.apply(Candidate(model=checkpoint.duplicate(trained_once.model)), context(1))
    for layer in done.model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.gamma.assign(layer.gamma * RANDOM.choice([1, 0.4, 0.1], layer.gamma.shape))
            layer.gamma[2].assign(-layer.gamma[2])
            layer.gamma[3].assign(0.0)
            layer.gamma[4].assign(1e-9)
    return exported(done, tmp_path_factory.mktemp("clustered") / "model.tflite")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["dynamic", "int8", "int16x8"])
def test_schemes_of_8_bit_weights_share_codes(scheme: str, float_model: Path, tmp_path: Path) -> None:
    flatbuffer = without_labels(float_model)
    data, _ = small_data()
    images = calibration.chosen(data.train, 50)
    schemes: dict[str, Callable[[], bytes]] = {
        "dynamic": lambda: weights.int8_weights(flatbuffer, weights.FILTERS),
        "int8": lambda: integers.quantized(calibration.calibrated(flatbuffer, images)),
        "int16x8": lambda: integers.int16x8(flatbuffer, images),
    }
    before, after = tmp_path / "before.tflite", tmp_path / "after.tflite"
    before.write_bytes(schemes[scheme]())
    after.write_bytes(clusters.with_shared_codes(before.read_bytes(), clusters.kernels(flatbuffer)))

    def most(path: Path) -> int:
        """The largest number of codes in a kernel. Mirrored filters double it."""
        return max(len(np.unique(abs(kernel.values))) for kernel in stored_kernels(path) if kernel.stored == "int8")

    assert most(before) > 20
    assert most(after) <= 17
    assert compressed_bytes(after) < compressed_bytes(before)
    # Rounding to 8 bits moves the logits; sharing codes moves them no further.
    exact = ExportedModel(float_model).logits(data.test.images)
    errors = [np.abs(ExportedModel(path).logits(data.test.images) - exact).mean() for path in (before, after)]
    print(f"mean error of the logits: {errors}, their size: {np.abs(exact).mean()}")
    assert errors[1] < 1.5 * errors[0]


@pytest.mark.slow
def test_filters_with_a_smaller_largest_code_keep_weights(float_model: Path) -> None:
    """Ranges that were learnt may be a little wider than the weights are after the last step."""
    flatbuffer = without_labels(float_model)
    model = parse(weights.int8_weights(flatbuffer, weights.FILTERS))
    kernels = list(clusters._quantized(model))
    exact = [kernel.codes * kernel.scales[:, None] for kernel in kernels]
    for kernel in kernels:
        wider = np.where(np.arange(len(kernel.codes)) % 2, 1.006, 1)
        kernel._store(np.rint(kernel.codes / wider[:, None]).astype(np.int8))
        kernel.tensor.quantization.scale = (kernel.scales * wider).astype(np.float32)
    shared = list(clusters._quantized(parse(clusters.with_shared_codes(packed(model), clusters.kernels(flatbuffer)))))
    assert any((abs(kernel.codes.astype(int)).max(axis=1) == 126).any() for kernel in clusters._quantized(model))
    for kernel, values in zip(shared, exact, strict=True):
        most = abs(values).max(axis=1, keepdims=True)
        assert abs(kernel.codes * kernel.scales[:, None] - values).max() <= 0.02 * most.max()
        assert (abs(kernel.codes * kernel.scales[:, None] - values) <= 0.02 * most).all()


@pytest.mark.slow
def test_bias_of_two_layers_keeps_its_scales(float_model: Path) -> None:
    """The layers that share it are left alone, as its scales follow from those of one kernel."""
    flatbuffer = without_labels(float_model)
    images = calibration.chosen(small_data()[0].train, 50)
    model = parse(integers.quantized(calibration.calibrated(flatbuffer, images)))
    first, second = [one for _, one in with_kernels(model)][2:4]
    first.inputs[2] = second.inputs[2]
    before = packed(model)
    after = parse(clusters.with_shared_codes(before, clusters.kernels(flatbuffer)))
    codes = [[kernel.codes for kernel in clusters._quantized(each)] for each in (model, after)]
    assert len(codes[0]) == len(codes[1]) == len(list(with_kernels(model))) - 2
    for place in (2, 3):
        kept = [[one for _, one in with_kernels(each)][place].inputs[1] for each in (parse(before), after)]
        scales = [
            each.subgraphs[0].tensors[index].quantization.scale
            for each, index in zip((parse(before), after), kept, strict=True)
        ]
        np.testing.assert_array_equal(*scales)
