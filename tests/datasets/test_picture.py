"""One image file as an image viewer shows it."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from pipelines.datasets.picture import read, turn
from tests import photographs

SIDE = 16


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    return photographs.classes()["temple"].crop((0, 0, 320, 200))


@pytest.mark.parametrize("kind", [kind for kind in photographs.KINDS if kind != "transparent"])
def test_every_format_shows_the_same_picture(tmp_path: Path, photograph: Image.Image, kind: str) -> None:
    expected = np.asarray(photograph.resize((SIDE, SIDE), Image.Resampling.BILINEAR)).astype(int)
    pixels = read(photographs.save(photograph, tmp_path / "one", kind), SIDE)
    assert pixels.shape == (SIDE, SIDE, 3) and pixels.dtype == np.uint8
    # 64 colours and GIF's dithering differ most.
    assert np.abs(pixels - expected).mean() < 6


def test_transparent_parts_show_white(tmp_path: Path, photograph: Image.Image) -> None:
    pixels = read(photographs.save(photograph, tmp_path / "one", "transparent"), SIDE)
    assert (pixels[:, SIDE // 2 + 1 :] == 255).all()
    assert not (pixels[:, : SIDE // 2 - 1] == 255).all()


@pytest.mark.parametrize(
    ("array", "ending", "grey"),
    [
        (np.full((9, 9), 257 * 100, np.uint16), "png", 100),
        (np.full((9, 9), 65535, np.uint16), "tif", 255),
        (np.full((9, 9), 257 * 100, np.int32), "tif", 100),
        (np.full((9, 9), 0.5, np.float32), "tif", 128),
        (np.full((9, 9), 200.4, np.float32), "tif", 200),
        (np.full((9, 9), True), "png", 255),
        (np.full((9, 9), 77, np.uint8), "png", 77),
    ],
)
def test_grey_images_of_any_depth_are_scaled(tmp_path: Path, array: np.ndarray, ending: str, grey: int) -> None:
    path = tmp_path / f"grey.{ending}"
    Image.fromarray(array).save(path)
    assert np.unique(read(path, 8)).tolist() == [grey]


def test_cmyk_is_read_as_colours(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    Image.new("RGB", (32, 32), (200, 30, 30)).convert("CMYK").save(path, quality=100)
    assert np.abs(read(path, 8).astype(int) - [200, 30, 30]).max() < 8


def test_large_photographs_are_shrunk_with_a_filter(tmp_path: Path) -> None:
    # Stripes of one pixel: without a filter every eighth of them is picked, and all is black or white.
    stripes = np.zeros((512, 512), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    assert np.abs(read(tmp_path / "stripes.png", 64).astype(int) - 127.5).max() < 5


def no_image(path: Path) -> None:
    path.write_text("not an image")


def truncated(path: Path) -> None:
    whole = io.BytesIO()
    photographs.classes()["flower"].save(whole, "jpeg")
    path.write_bytes(whole.getvalue()[:5000])


def too_large(path: Path) -> None:
    # 40,000 x 40,000 pixels in a few bytes.
    header = io.BytesIO()
    Image.new("1", (40000, 40000)).save(header, "png")
    path.write_bytes(header.getvalue())


def negative(path: Path) -> None:
    Image.fromarray(np.full((9, 9), -3.0, np.float32)).save(path, "tiff")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (no_image, r"odd.jpg must be an image that Pillow opens, got another file: save it as PNG or JPEG"),
        (lambda path: path.touch(), r"odd.jpg must be an image that Pillow opens"),
        (truncated, r"odd.jpg must be a whole and readable image, got: .*truncated"),
        (too_large, r"odd.jpg must have at most 536,870,912 pixels, got more: save it smaller or remove it$"),
        # As large as a phone's, which is read, were it whole.
        (
            lambda path: path.write_bytes(b"P5 16320 12240 255\n"),
            r"odd.jpg must be a whole .*, got: .*(truncated|mmap)",
        ),
        (
            negative,
            r"odd.jpg must be a whole .*values of -3 to -3, where 0..65535, or floats in 0..1 or 0..255, are read",
        ),
        (
            lambda path: Image.fromarray(np.array([[0.2, 1.02]], np.float32)).save(path, "tiff"),
            r"odd.jpg must be a whole .*: floats up to 1.02, where 0..1, or 0..255 with 64 or more, are read",
        ),
        (
            lambda path: path.symlink_to(path.parent / "gone.jpg"),
            r"odd.jpg must be a file, got a link to nothing: mend",
        ),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, make, sentence: str) -> None:
    path = tmp_path / "odd.jpg"
    make(path)
    with pytest.raises(ValueError, match=sentence):
        read(path, 8)


def test_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(path)
    path.chmod(0)
    tmp_path.chmod(0o755)
    code = f"""
import os
from pathlib import Path
from pipelines.datasets.picture import read
if os.getuid() == 0:
    os.setuid(65534)
read(Path({str(path)!r}), 8)
"""
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "secret.png must be readable, got no permission: chmod a+r the file" in done.stderr


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(tmp_path: Path, orientation: int, ending: str) -> None:
    """As Pillow turns them, also where it cannot write another of their tags again."""
    corners = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = tmp_path / f"a.{ending}"
    corners.save(path, exif=exif)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    with Image.open(path) as opened:
        np.testing.assert_array_equal(np.asarray(turn(opened)), expected)
        opened.getexif()[ExifTags.Base.ResolutionUnit] = "inch"
        np.testing.assert_array_equal(np.asarray(turn(opened)), expected)


def test_damaged_metadata_cost_no_picture(tmp_path: Path, photograph: Image.Image) -> None:
    path = tmp_path / "scrubbed.jpg"
    # A density, without which Pillow looks for one in the EXIF data and forgives their damage.
    photograph.save(path, "jpeg", exif=b"Exif\0\0" + bytes(64), dpi=(72, 72))
    with pytest.raises(SyntaxError), Image.open(path) as image:
        image.getexif()
    plain = np.asarray(photograph.resize((8, 8), Image.Resampling.BILINEAR))
    assert abs(read(path, 8).astype(int) - plain).max() < 30
