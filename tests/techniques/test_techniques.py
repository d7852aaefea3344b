"""Each technique's effect on a real, trained network, through to the exported file as LiteRT sees it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from pipelines.execution.export import export
from pipelines.litert.exported_model import ExportedModel, tensor_dtypes
from pipelines.litert.kernels import kernels
from pipelines.quantization.integers import int16x8
from pipelines.quantization.weights import MIN_WEIGHTS
from pipelines.techniques.base import Candidate, Chain, EffectError
from pipelines.techniques.baseline import Baseline
from pipelines.techniques.quantize import Quantize
from pipelines.techniques.transfer import Transfer
from tests.conftest import SMALL_CNN, context, exported, exported_accuracy, small_data

INT8 = Quantize(scheme="int8", calibration_images=50)
TRANSFER = Transfer(epochs=1, learning_rate=1e-3, unfreeze_blocks=0, unfreeze_epochs=None, unfreeze_learning_rate=1e-5)


def test_baseline_export_matches_keras(trained: Candidate, exported_baseline: Path) -> None:
    data, _ = small_data()
    exported_model = ExportedModel(exported_baseline)
    keras = trained.model.predict(data.test.images.astype(np.float32), verbose=0)
    assert np.allclose(exported_model.logits(data.test.images), keras, atol=1e-3)
    assert exported_model.labels == data.class_names


def test_baseline_takes_a_trained_model_as_it_is() -> None:
    data, _ = small_data()
    model = SMALL_CNN.build(data.image_shape, 10)
    before, it = model.get_weights(), replace(context(1), trained=True)
    done = Baseline().apply(Candidate(model=model), it)
    assert it.trainer.epochs == [] and it.trainer.seconds == 0
    assert all(np.array_equal(a, b) for a, b in zip(before, done.model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("scheme", "calibration", "holds", "largest_share", "largest_difference"),
    [
        ("dynamic", 0, "int8", 0.35, 0.03),
        ("float16", 0, "float16", 0.55, 0.01),
        ("int8", 50, "int8", 0.35, 0.03),
        ("int16x8", 50, "int16", 0.35, 0.03),
    ],
)
def test_quantization(
    scheme: str,
    calibration: int,
    holds: str,
    largest_share: float,
    largest_difference: float,
    trained: Candidate,
    exported_baseline: Path,
    tmp_path: Path,
) -> None:
    technique = Quantize(scheme=scheme, calibration_images=calibration)
    exported_model = exported(technique.apply(trained, context()), tmp_path / "model.tflite")
    technique.verify(trained, exported_model)
    assert tensor_dtypes(exported_model)[holds] > 0
    assert exported_model.stat().st_size < largest_share * exported_baseline.stat().st_size
    assert abs(exported_accuracy(exported_model) - exported_accuracy(exported_baseline)) <= largest_difference


def test_16_bits_hold_brighter_pixels_than_those_that_calibrate(exported_baseline: Path, tmp_path: Path) -> None:
    data, _ = small_data()
    (tmp_path / "model.tflite").write_bytes(int16x8(exported_baseline.read_bytes(), data.train.images[:5] // 4))
    details = Interpreter(str(tmp_path / "model.tflite")).get_tensor_details()
    assert (pytest.approx(255 / 32767), 0) in [one["quantization"] for one in details]


def test_int8_has_integers_only_and_takes_pixels(trained: Candidate, tmp_path: Path) -> None:
    exported_model = exported(INT8.apply(trained, context()), tmp_path / "model.tflite")
    assert ExportedModel(exported_model).input_dtype == np.uint8
    assert "float32" not in tensor_dtypes(exported_model)


@pytest.mark.parametrize("scheme", ["dynamic", "float16", "int8", "int16x8"])
def test_unquantized_export_is_refused(scheme: str, trained: Candidate, exported_baseline: Path) -> None:
    with pytest.raises(EffectError, match=f"quantize_{scheme} left"):
        Quantize(scheme=scheme, calibration_images=1).verify(trained, exported_baseline)


@pytest.mark.parametrize(("depthwise", "is_float"), [(None, True), ("float", True), ("int8", False)])
def test_depthwise_kernels_of_dynamic_quantization(
    depthwise: str | None, is_float: bool, separable: Candidate, tmp_path: Path
) -> None:
    technique = Quantize(scheme="dynamic", depthwise=depthwise)
    found = kernels(exported(technique.apply(separable, context()), tmp_path / "model.tflite"))
    kinds = {one.operator: one.values.dtype.name for one in found if one.values.size >= MIN_WEIGHTS}
    assert kinds["CONV_2D"] == "int8"
    assert kinds["DEPTHWISE_CONV_2D"] == ("float32" if is_float else "int8")


def test_chain_starts_from_the_cell_of_its_previous_steps() -> None:
    transfer = TRANSFER
    chain = Chain(steps={"transfer": transfer, "quantize": INT8})
    assert chain.name == "transfer_quantize_int8"
    assert Chain(steps=chain.steps, alias="short").name == "short"
    for alias, told in (("prune/qat", "technique.alias must "), ("baseline", "must be another name than 'baseline'")):
        with pytest.raises(ValueError, match=told):
            Chain(steps=chain.steps, alias=alias)
    assert chain.parent is transfer
    candidate = chain.apply(Candidate(model=None), context())
    assert candidate.rewriting is INT8 and chain.last is INT8


def test_chain_checks_every_step(trained: Candidate, exported_baseline: Path) -> None:
    chain = Chain(steps={"transfer": TRANSFER, "quantize": INT8})
    with pytest.raises(EffectError):
        chain.verify(trained, exported_baseline)
    with pytest.raises(ValueError, match="transfer needs pretrained weights"):
        chain.preflight(SMALL_CNN)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"only": INT8}, "at least 2 steps"),
        (
            {"quantize": INT8, "float16": Quantize(scheme="float16")},
            "quantize quantizes the exported model and must be the",
        ),
        ({"transfer": TRANSFER, "train": Baseline()}, "train trains from the model's own weights"),
    ],
)
def test_bad_chains(steps: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chain(steps=steps)


def test_equal_quantizations_are_equal() -> None:
    """`scheme` is swept with the settings of another one."""
    assert Quantize(scheme="float16", calibration_images=200) == Quantize(scheme="float16")
    assert Quantize(scheme="dynamic", calibration_images=200) == Quantize(scheme="dynamic", depthwise="float")


def test_failed_export_leaves_no_file(trained: Candidate, tmp_path: Path) -> None:
    data, _ = small_data()
    with pytest.raises(ValueError, match="label"):
        export(trained, replace(data, class_names=("one",)), tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Quantize(scheme="int4", calibration_images=1), "technique.scheme must be one of"),
        (lambda: Quantize(scheme="int8", calibration_images=0), "technique.calibration_images must be"),
        (lambda: Quantize(scheme="dynamic", depthwise="float16"), "technique.depthwise must be one of float, int8"),
        (lambda: Quantize(scheme="float16", depthwise="float"), "technique.depthwise must be null with the scheme"),
    ],
)
def test_bad_values(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
