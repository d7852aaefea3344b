"""Zeros that reach the exported model, one by one and in patterns."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.litert.kernels import kernels, sparsity
from pipelines.litert.size import compressed_bytes
from pipelines.models.checkpoint import duplicate
from pipelines.techniques.base import Candidate, EffectError
from pipelines.techniques.prune import Prune
from tests.conftest import context, exported, exported_accuracy


def prune(**changed: Any) -> Prune:
    fields: dict[str, Any] = {
        "pattern": "unstructured",
        "sparsity": 0.7,
        "block_size": 4,
        "skip": None,
        "epochs": None,
        "learning_rate": 2e-3,
    }
    return Prune(**fields | changed)


@pytest.mark.slow
def test_weights_one_by_one(trained: Candidate, exported_baseline: Path, tmp_path: Path) -> None:
    technique = prune()
    names = [layer.name for layer in trained.model.layers]
    done = technique.apply(trained, context(15))
    exported_model = exported(done, tmp_path / "model.tflite")
    technique.verify(done, exported_model)
    assert sparsity(exported_model) == pytest.approx(0.7, abs=0.01)
    assert compressed_bytes(exported_model) < 0.5 * compressed_bytes(exported_baseline)
    assert exported_accuracy(exported_model) > 0.85
    assert [layer.name for layer in done.model.layers] == names
    with pytest.raises(EffectError, match="promised 70% zeros"):
        technique.verify(done, exported_baseline)


@pytest.mark.slow
def test_two_in_four(trained: Candidate, tmp_path: Path) -> None:
    technique = prune(pattern="two_in_four", sparsity=0.5)
    done = technique.apply(trained, context(4))
    exported_model = exported(done, tmp_path / "model.tflite")
    technique.verify(done, exported_model)
    first, *others = kernels(exported_model)
    # Three colours cannot be divided by four.
    assert np.count_nonzero(first.values) == first.values.size
    for kernel in others:
        assert (np.count_nonzero(kernel.values.reshape(-1, 4), axis=1) <= 2).all()
    assert exported_accuracy(exported_model) > 0.85


@pytest.mark.slow
def test_blocks_are_pruned_as_a_whole(trained: Candidate, tmp_path: Path) -> None:
    technique = prune(pattern="block", sparsity=0.5)
    done = technique.apply(trained, context(6))
    exported_model = exported(done, tmp_path / "model.tflite")
    technique.verify(done, exported_model)
    for kernel in kernels(exported_model)[1:]:
        used = np.count_nonzero(kernel.values.reshape(-1, 4), axis=1)
        assert (used == 0).mean() == pytest.approx(0.5, abs=0.01)
        assert set(np.unique(used)) <= {0, 3, 4}
    # As many zeros in other places are no blocks.
    with pytest.raises(EffectError, match="promised 50% zeros"):
        scattered = _spread(Candidate(model=duplicate(done.model)))
        technique.verify(done, exported(scattered, tmp_path / "scattered.tflite"))


def _spread(candidate: Candidate) -> Candidate:
    """Every second weight zero."""
    for layer in candidate.model.layers:
        if type(layer).__name__ in ("Conv2D", "Dense"):
            kernel, *rest = layer.get_weights()
            kernel[..., ::2, :] = 0
            kernel[..., 1::2, :] = 1
            layer.set_weights([kernel, *rest])
    return candidate


@pytest.mark.slow
def test_skipped_layers_stay_dense(trained: Candidate, tmp_path: Path) -> None:
    """And few steps are enough for the others."""
    technique = prune(skip="block[12]|head_", epochs=1)
    done = technique.apply(trained, context(1))  # 8 steps
    kernel = done.model.get_layer("block3_conv").kernel.numpy()
    assert (kernel == 0).mean() == pytest.approx(0.7, abs=0.01)
    exported_model = exported(done, tmp_path / "model.tflite")
    technique.verify(done, exported_model)
    dense = [np.count_nonzero(kernel.values) == kernel.values.size for kernel in kernels(exported_model)]
    assert dense == [True, True, False, False, False, True]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pattern": "2:8"}, "technique.pattern must be one of"),
        ({"sparsity": 1.0}, "technique.sparsity must be a fraction"),
        ({"pattern": "two_in_four"}, "technique.sparsity must be 0.5 with the pattern two_in_four, got 0.7"),
        ({"block_size": 1}, "technique.block_size must be"),
        ({"skip": "["}, "technique.skip must be a regular expression"),
        ({"epochs": 0}, "technique.epochs must be"),
        ({"learning_rate": 0}, "technique.learning_rate must be"),
    ],
)
def test_bad_values(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prune(**changed)


@pytest.mark.parametrize("changed", [{"skip": "."}, {"pattern": "block", "block_size": 5}])
def test_pruning_nothing_is_refused(changed: dict, trained: Candidate) -> None:
    prune().check_network(lambda: trained.model)
    fault = "skip=. leaves out every kernel" if "skip" in changed else "input channels are 3, 32, 64, 128: a row must"
    with pytest.raises(ValueError, match=f"found no kernel to prune in rows of .*{fault}"):
        prune(**changed).check_network(lambda: trained.model)
    with pytest.raises(ValueError, match="found no kernel to prune"):
        prune(**changed).apply(trained, context(1))


def test_skip_that_matches_no_layer_is_reported(trained: Candidate) -> None:
    told: list[str] = []
    with pytest.raises(ValueError, match="found no kernel to prune"):
        prune(pattern="block", block_size=5, skip="blok1").apply(trained, replace(context(1), report=told.append))
    assert told[0].startswith("technique.skip leaves out no layer: no name begins with 'blok1' (block1_conv, ")


def test_settings_without_effect_make_no_other_cell() -> None:
    assert prune(block_size=8) == prune()
