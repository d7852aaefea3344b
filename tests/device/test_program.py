"""The program that classifies image files without opscore."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image

from pipelines.datasets.picture import read
from pipelines.device.program import image_lines, output_in_words, program
from pipelines.litert.exported_model import ExportedModel
from pipelines.results.files import PROGRAM
from pipelines.runtimes.base import runtimes
from pipelines.system.exif import ORIENTATION, TURNS
from tests import photographs

pytest.importorskip("openvino")

SIDE = 16


def image_of(path: Path) -> npt.NDArray[np.uint8]:
    """As the program reads it."""
    names: dict[str, Any] = {"path": path, "np": np, "Image": Image}
    exec(image_lines(SIDE, SIDE), names)
    image: npt.NDArray[np.uint8] = names["image"]
    return image


@pytest.mark.parametrize("kind", photographs.KINDS)
def test_image_is_read_as_for_training(tmp_path: Path, photograph: Image.Image, kind: str) -> None:
    path = photographs.save(photograph, tmp_path / "one", kind)
    assert np.array_equal(image_of(path), read(path, SIDE))


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return photographs.classes()["temple"].crop((0, 0, 320, 200))


def test_turned_tiff_is_read_as_for_training(tmp_path: Path, photograph: Image.Image) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photograph.save(tmp_path / "scan.tiff", exif=exif)
    upright = np.asarray(photograph.rotate(-90, expand=True).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert np.array_equal(image_of(tmp_path / "scan.tiff"), upright)
    assert np.array_equal(read(tmp_path / "scan.tiff", SIDE), upright)


def test_grey_image_of_16_bits_is_read_as_for_training(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    pixels = image_of(tmp_path / "grey.png")
    assert np.array_equal(pixels, read(tmp_path / "grey.png", SIDE))
    assert 100 < pixels.mean() < 150


@pytest.mark.parametrize("most", [1.0, 255.0])
def test_grey_image_of_floats_is_read_as_for_training(tmp_path: Path, most: float) -> None:
    values = np.linspace(0, most, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "grey.tiff")
    pixels = image_of(tmp_path / "grey.tiff")
    assert np.array_equal(pixels, read(tmp_path / "grey.tiff", SIDE))
    assert 100 < pixels.mean() < 150


@pytest.mark.parametrize(
    "values",
    [np.full((4, 4), 70000, np.int32), np.full((4, 4), np.nan, np.float32), np.full((4, 4), 1.02, np.float32)],
)
def test_grey_values_of_unknown_meaning_are_refused(tmp_path: Path, values: npt.NDArray[Any]) -> None:
    Image.fromarray(values).save(tmp_path / "grey.tiff")
    for reader in (image_of, lambda path: read(path, SIDE)):
        with pytest.raises(ValueError, match=r"70000|nan|not finite|1\.02"):
            reader(tmp_path / "grey.tiff")


def test_turns_are_those_of_pillow() -> None:
    assert ExifTags.Base.Orientation == ORIENTATION
    names = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
    assert {number: Image.Transpose(turn).name for number, turn in TURNS.items()} == dict(enumerate(names, start=2))


@pytest.mark.slow
def test_file_that_is_no_image_leaves_the_others(bare_python: Path, made: Path, tmp_path: Path) -> None:
    shutil.copy(made / "float32.tflite", tmp_path / "model.tflite")
    (tmp_path / PROGRAM).write_text(program(tmp_path / "model.tflite", "litert", 1))
    (tmp_path / "labels.txt").write_text("\n".join("abcdefghij"))
    (tmp_path / "notes.txt").write_text("no image")
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    # As after a power cut: Pillow raises a SyntaxError.
    whole = (tmp_path / "one.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:40] + bytes(len(whole) - 40))
    odd = os.fsdecode(b"on\xe9.png")
    shutil.copy(tmp_path / "one.png", tmp_path / odd)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(bare_python), PROGRAM, *words]
        return subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)

    ended = run("notes.txt", "missing.jpg", "cut.png", odd, "one.png")
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert re.fullmatch(r"on\?\.png: ([a-j])\none\.png: \1\n", ended.stdout)
    assert "notes.txt: cannot identify image file" in ended.stderr and "missing.jpg: " in ended.stderr
    assert "cut.png: " in ended.stderr
    assert run("one.png").returncode == 0
    alone = run()
    assert alone.returncode == 1 and "python run.py image.jpg" in alone.stderr
    asked = run("--help")
    assert asked.returncode == 0 and "python run.py image.jpg" in asked.stdout
    # Each line is written as soon as it is there, so that the second meets a closed pipe.
    piped = f"set -o pipefail; PYTHONUNBUFFERED=1 {bare_python} {PROGRAM} {'one.png ' * 20} | head -1"
    ended = subprocess.run(["bash", "-c", piped], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 141 and "Traceback" not in ended.stderr and len(ended.stdout.splitlines()) == 1


def test_integers_of_the_output_are_explained(made: Path) -> None:
    assert output_in_words(made / "float32.tflite") == "of type float32"
    words = output_in_words(made / "int8.tflite")
    found = re.fullmatch(r"as u?int8 \(subtract -?\d+, then multiply by (\S+)\)", words)
    assert found is not None and float(found[1]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["float32", "uint8", "int8"])
@pytest.mark.parametrize("runtime", list(runtimes()))
def test_classes_are_those_of_the_exported_model(
    bare_python: Path, made: Path, tmp_path: Path, name: str, runtime: str
) -> None:
    shutil.copy(made / f"{name}.tflite", tmp_path / "model.tflite")
    text = program(tmp_path / "model.tflite", runtime, 2)
    (tmp_path / PROGRAM).write_text(text)
    model = ExportedModel(tmp_path / "model.tflite")
    (tmp_path / "labels.txt").write_text("\n".join(f"class {number}" for number in range(model.classes)))
    height, width, _ = model.image_shape
    images = np.random.default_rng(0).integers(0, 256, (20, height, width, 3), np.uint8)
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number} image.png")
    logits = model.logits(images)
    ended = subprocess.run(
        [bare_python, PROGRAM, *(f"{number} image.png" for number in range(len(images)))],
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
