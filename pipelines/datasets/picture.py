"""One image file as pixels, as an image viewer shows it. Pillow reads it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from pipelines.datasets.pixels import DARK
from pipelines.system.exif import ORIENTATION, TURNS

# Pillow refuses images of more than twice as many pixels. Phones take photographs of 200 megapixels.
Image.MAX_IMAGE_PIXELS = 2**28
# Raw photographs of cameras. Pillow does not know them, but opens those in the form of a TIFF: it would read their
# thumbnails.
RAW = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw")
# Pillow's modes of more than 8 bits a channel, all of them grey.
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read(path: Path, side: int) -> npt.NDArray[np.uint8]:
    """The pixels of an image file, RGB uint8 of shape (side, side, 3).

    The image is turned by its EXIF orientation, transparent parts become white, and of several frames the first is
    used. Grey images of 16 bits are divided by 257; grey images of floats are multiplied by 255 if they are in 0..1,
    and rounded if they are in 0..255 and reach 64. Resizing is Pillow's BILINEAR, which is antialiased; proportions
    are not kept.
    Raises ValueError, naming the file, for everything else.
    """
    if path.suffix.lower() in RAW:
        raise ValueError(
            f"{printable(path)} must be an image that Pillow opens, got a camera's raw photograph: save it as PNG or "
            "JPEG, or remove it from the folder"
        )
    try:
        with warnings.catch_warnings():
            # About damaged metadata and large photographs: only the pixels matter.
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                seen = _as_seen(image).resize((side, side), Image.Resampling.BILINEAR)
                return np.asarray(seen)
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{printable(path)} must be an image that Pillow opens, got another file: save it as PNG or JPEG, or "
            "remove it from the folder"
        ) from error
    except Exception as error:  # Pillow's plugins raise all kinds of errors.
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> ValueError:
    """The refusal of an image file that cannot be read."""
    shown = printable(path)
    if isinstance(error, FileNotFoundError):
        return ValueError(f"{shown} must be a file, got a link to nothing: mend the link or delete it")
    if isinstance(error, PermissionError):
        return ValueError(f"{shown} must be readable, got no permission: chmod a+r the file")
    if isinstance(error, Image.DecompressionBombError):
        return ValueError(f"{shown} must have at most {2**29:,} pixels, got more: save it smaller or remove it")
    return ValueError(
        f"{shown} must be a whole and readable image, got: {str(error) or type(error).__name__}; save it again or "
        "remove it from the folder"
    )


def check_readable(unread: Sequence[str]) -> None:
    """Raise ValueError with the sentences about all images that could not be read, at once."""
    if not unread:
        return
    first, *others = sorted(unread)
    if not others:
        raise ValueError(first)
    # Next to the first, all in a file: there may be thousands.
    with tempfile.NamedTemporaryFile("w", prefix="opscore-unreadable-", suffix=".txt", delete=False) as file:
        file.writelines(f"{sentence}\n" for sentence in (first, *others))
    raise ValueError(f"{first}; {len(others):,} more cannot be read either: all are listed in {file.name}")


def printable(path: Path) -> str:
    """A path as text. A name that is not UTF-8 is read as Latin-1, in which every byte is a letter."""
    raw = str(path).encode(errors="surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _as_seen(image: Image.Image) -> Image.Image:
    turned = turn(image)
    if turned.mode in SIXTEEN_BITS or turned.mode == "F":
        turned = Image.fromarray(_in_8_bits(np.asarray(turned)))
    # Blending takes three more copies of all pixels, of a photograph hundreds of megabytes.
    if not turned.has_transparency_data:
        return turned.convert("RGB")
    seen = turned.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")


def turn(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says. Pillow's own function also writes all EXIF tags, whatever is in them."""
    # Pillow itself turns a TIFF while it loads, and then removes the tag.
    image.load()
    try:
        method = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # noqa: BLE001 (whatever Pillow raises for damaged metadata: the pixels are whole)
        return image
    return image if method is None else image.transpose(Image.Transpose(method))


def _in_8_bits(grey: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Grey values of shape (h, w) as uint8. Raises ValueError for a range that could mean several things."""
    values = grey.astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("values that are not finite numbers")
    low, high = values.min(), values.max()
    # One bright pixel beyond 1 must not make an image of 0..1 black.
    if np.issubdtype(grey.dtype, np.floating) and 1 < high < DARK:
        raise ValueError(f"floats up to {high:g}, where 0..1, or 0..255 with {DARK} or more, are read")
    if np.issubdtype(grey.dtype, np.floating):
        factor, allowed = (255.0, 1.0) if high <= 1 else (1.0, 255.0)
    else:
        factor, allowed = 1 / 257, 65535.0
    if low < 0 or high > allowed:
        raise ValueError(f"values of {low:g} to {high:g}, where 0..65535, or floats in 0..1 or 0..255, are read")
    return np.rint(values * factor).astype(np.uint8)
