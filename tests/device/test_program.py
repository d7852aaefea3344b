"""The program that classifies image files without opscore."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import PIL.ImageOps
import pytest
from PIL import Image

from pipelines.datasets.picture import read
from pipelines.device.program import IMAGE, NAME, program
from pipelines.litert.exported_model import ExportedModel
from pipelines.runtimes.base import runtimes
from tests import photographs

pytest.importorskip("openvino")

SIDE = 16


@pytest.mark.parametrize("kind", photographs.KINDS)
def test_image_is_read_as_for_training(tmp_path: Path, photograph: Image.Image, kind: str) -> None:
    path = photographs.save(photograph, tmp_path / "one", kind)
    names = {"path": path, "np": np, "Image": Image, "ImageOps": PIL.ImageOps}
    exec(IMAGE.format(width=SIDE, height=SIDE), names)
    assert np.array_equal(names["image"], read(path, SIDE))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return photographs.classes()["temple"].crop((0, 0, 320, 200))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float32", "uint8", "int8"])
@pytest.mark.parametrize("runtime", list(runtimes()))
def test_classes_are_those_of_the_exported_model(
    bare_python: Path, made: Path, tmp_path: Path, name: str, runtime: str
) -> None:
    shutil.copy(made / f"{name}.tflite", tmp_path / "model.tflite")
    text = program(tmp_path / "model.tflite", runtime, 2)
    (tmp_path / NAME).write_text(text)
    model = ExportedModel(tmp_path / "model.tflite")
    (tmp_path / "labels.txt").write_text("\n".join(f"class {number}" for number in range(model.classes)))
    height, width, _ = model.image_shape
    images = np.random.default_rng(0).integers(0, 256, (20, height, width, 3), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number} image.png")
    logits = model.logits(images)
    ended = subprocess.run(
        [bare_python, NAME, *(f"{number} image.png" for number in range(len(images)))],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = [int(number) for number in re.findall(r"^\d+ image.png: class (\d+)$", ended.stdout, re.MULTILINE)]
    assert len(found) == len(images)
    # Bfloat16 and another rounding of integers may change the class where two logits are within 3% of their range.
    lost = logits.max(axis=1) - logits[np.arange(len(images)), found]
    assert lost.max() <= 0.03 * np.ptp(logits)
