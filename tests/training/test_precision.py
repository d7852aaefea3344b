"""Half precision in training: where it is chosen, that a network really has it, and that nothing of it stays."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipelines.cells.plan import Plan
from pipelines.models import checkpoint
from pipelines.models.base import Model
from pipelines.models.efficientnet import EfficientNet
from pipelines.models.efficientnet_lite import EfficientNetLite
from pipelines.models.mobilenet import MobileNetV2
from pipelines.models.small_cnn import SmallCNN
from pipelines.models.vgg import VGG
from pipelines.system import machine, runtime
from pipelines.training import precision
from tests.cells.test_config import composed
from tests.conftest import context
from tests.models.networks import SHAPE, SHARED, images, outputs
from tests.places import Place

FLAGS = "flags : fpu avx2 avx512f {} avx512_vnni\n"
MODELS: tuple[Model, ...] = (
    SmallCNN(**SHARED, width=8),
    VGG(**SHARED, depth=16),
    MobileNetV2(**SHARED),
    EfficientNet(**SHARED, variant=0),
    EfficientNetLite(variant=0, **SHARED),
)


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in place of the one in which the system describes its processor; without GPU."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "CPUINFO", path)
    monkeypatch.setattr(runtime, "has_gpu", lambda: False)
    return path


@pytest.mark.parametrize(
    ("setting", "flag", "gains", "expected"),
    [
        ("auto", "avx512_bf16", True, "mixed_bfloat16"),
        ("auto", "amx_bf16", True, "mixed_bfloat16"),
        ("auto", "avx512_bf16", False, "float32"),
        ("auto", "avx512_fp16", True, "float32"),
        (True, "avx512_fp16", False, "mixed_bfloat16"),
        (False, "avx512_bf16", True, "float32"),
    ],
)
def test_processor_decides(processor: Path, setting: str | bool, flag: str, gains: bool, expected: str) -> None:
    processor.write_text(FLAGS.format(flag))
    assert precision.chosen(setting, gains=gains) == expected


def test_no_half_precision_where_nothing_describes_the_processor(processor: Path) -> None:
    assert not processor.exists()
    assert precision.chosen("auto", gains=True) == "float32"


@pytest.mark.parametrize(
    ("setting", "expected"), [("auto", "mixed_float16"), (True, "mixed_float16"), (False, "float32")]
)
def test_gpu_takes_float16(monkeypatch: pytest.MonkeyPatch, setting: str | bool, expected: str) -> None:
    monkeypatch.setattr(runtime, "has_gpu", lambda: True)
    assert precision.chosen(setting, gains=False) == expected


def test_a_driver_alone_is_no_gpu(tmp_path: Path) -> None:
    """As with TensorFlow for CPUs on a machine with a GPU: a process without TensorFlow asks one that loads it."""
    code = (
        "import sys; from pathlib import Path; from pipelines.system import machine, runtime; "
        f"machine.GPU_DRIVERS = (Path({str(tmp_path)!r}),); print(runtime.has_gpu(), 'tensorflow' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True).stdout
    assert told == f"{bool(runtime.gpus())} False\n"


def test_gpu_memory_grows_unless_the_user_says_otherwise() -> None:
    code = (
        "import os; from pipelines.system import runtime; runtime.configure(onednn=True, deterministic=False); "
        "print(os.environ['TF_FORCE_GPU_ALLOW_GROWTH'])"
    )
    for given, expected in (({}, "true"), ({"TF_FORCE_GPU_ALLOW_GROWTH": "false"}, "false")):
        told = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **given},
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout
        assert told.split() == [expected]


@pytest.mark.parametrize(
    ("model", "policy"),
    [*((model, precision.BFLOAT16) for model in MODELS), (MODELS[0], precision.FLOAT16)],
    ids=lambda value: getattr(value, "name", value),
)
def test_networks_have_the_precision_and_float32_answers(model: Model, policy: str) -> None:
    with precision.policy(policy):
        network = model.build(SHAPE, 7)
    assert precision.used(network) == policy
    kinds = {layer.compute_dtype for layer in network.layers if "Conv" in type(layer).__name__}
    assert kinds == {policy.removeprefix("mixed_")}
    assert outputs(network, images(1)).dtype == np.float32
    if model is MODELS[0]:
        assert precision.used(model.build(SHAPE, 7)) == "float32"


def test_trained_network_computes_in_float32_again() -> None:
    it = context(epochs=2).trainer
    with precision.policy(precision.BFLOAT16):
        model = SmallCNN(**SHARED, width=8).build(it.data.image_shape, len(it.data.class_names))
    it.fit(model)
    plain = checkpoint.as_float32(model)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    pixels = it.data.test.images[:8].astype(np.float32)
    assert np.allclose(plain.predict(pixels, verbose=0), model.predict(pixels, verbose=0), atol=0.1)


@pytest.mark.slow
def test_command_trains_in_half_precision(tmp_path: Path) -> None:
    """The setting reaches the training, the record and the comparison; a checkpoint is trained on in float32."""
    place = Place(tmp_path)
    half = place.run("training.mixed_precision=true", "technique=cluster", "technique.epochs=1")
    assert half.returncode == 0, half.stderr
    lines = [line for line in half.stdout.splitlines() if "training for" in line]
    assert [line.split()[-1] for line in lines] == ["bfloat16", "float32"]
    plain = place.run("training.mixed_precision=false", "technique=baseline")
    assert "in float32" in plain.stdout
    recorded = [(run.data.tags["technique"], run.data.tags["precision"]) for run in place.cells()]
    assert sorted(recorded) == [("baseline", "float32"), ("baseline", "mixed_bfloat16"), ("cluster", "mixed_bfloat16")]
    # Both baselines are there, told apart by what they computed in.
    shown = place.opscore("compare", "--experiment", place.name).stdout
    assert "precision=bfloat16" in shown and "precision=float32" in shown and "mixed_precision" not in shown


def test_equal_precision_is_an_equal_cell(processor: Path) -> None:
    def fingerprint(setting: str) -> str:
        return Plan.of(composed(f"training.mixed_precision={setting}"), lambda _: "").fingerprint

    processor.write_text(FLAGS.format("avx512_vnni"))
    assert fingerprint("auto") == fingerprint("false")
    processor.write_text(FLAGS.format("avx512_bf16"))
    assert fingerprint("auto") == fingerprint("true") != fingerprint("false")


@pytest.mark.parametrize(
    ("granted", "expected"),
    [
        ("", []),
        ("-1", []),
        ("0, 1", ["0", "1"]),
        ("0,-1,1", ["0"]),
        ("0,", ["0"]),
        ("3,3", ["3"]),
        ("GPU-a", ["GPU-a"]),
    ],
)
def test_granted_cards_are_read_as_by_cuda(monkeypatch: pytest.MonkeyPatch, granted: str, expected: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", granted)
    assert machine.nvidia_cards() == expected
