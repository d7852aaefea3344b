"""A program that classifies image files with an exported model, without opscore."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.litert.exported_model import Ends, ends
from pipelines.results.files import LABELS, MODEL, PROGRAM
from pipelines.runtimes.base import named
from pipelines.system.exif import ORIENTATION, TURNS

TEXT = '''\
"""Classify image files: python {name} image.jpg

It needs: pip install {package} numpy pillow
"""
import signal
import sys
from pathlib import Path

import numpy as np
{imports}
from PIL import Image

MODEL = Path(__file__).with_name("{model}")
LABELS = Path(__file__).with_name("{labels}").read_text(encoding="utf-8").splitlines()
{load}
if hasattr(signal, "SIGPIPE"):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as where `head` reads no more
sys.stdout.reconfigure(errors="replace")  # a terminal may lack letters of a label
if sys.argv[1:] in ([], ["-h"], ["--help"]):
    sys.exit(print(__doc__) if sys.argv[1:] else __doc__)
failed = []
for path in sys.argv[1:]:
    name = path.encode(errors="replace").decode()  # of a file whose name is not UTF-8
    try:
        {image}
    except Exception as error:  # Pillow's readers raise all kinds
        failed.append(f"{{name}}: {{str(error) or type(error).__name__}}")
        continue
    pixels = {pixels}
    {answer}
    print(f"{{name}}: {{LABELS[logits.argmax()]}}")
sys.exit("\\n".join(failed) or 0)
'''
# An image as `datasets.picture.read` reads it.
_IMAGE = """\
Image.MAX_IMAGE_PIXELS = 2**28  # phones take 200 megapixels
image = Image.open(path)
image.load()  # a TIFF is turned meanwhile
try:
    turn = {turns}.get(image.getexif().get({orientation}))  # upright, as a camera noted
except Exception:  # damaged metadata
    turn = None
image = image if turn is None else image.transpose(turn)
if image.mode[0] in "IF":  # grey of 16 bits, or of floats in 0..1 or 0..255
    grey = np.asarray(image, np.float64)
    scale, most = (1 / 257, 65535) if image.mode != "F" else (255, 1) if grey.max() <= 1 else (1, 255)
    if not 0 <= grey.min() <= grey.max() <= most or (image.mode == "F" and 1 < grey.max() < 64):
        raise ValueError(f"grey values of {{grey.min():g}} to {{grey.max():g}}")
    image = Image.fromarray(np.rint(grey * scale).astype(np.uint8))
image = image.convert("RGBA")
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
image = np.asarray(image.resize(({width}, {height}), Image.Resampling.BILINEAR))"""


def program(path: Path, runtime: str, threads: int) -> str:
    """The program for an exported model, in the folder of the model and its labels.

    It reads an image file as `dataset=folder` does (`datasets.picture`), and resizes it to the model's input.
    Raises ValueError for a file that is no exported model, or a runtime that is none.
    """
    form, lines = ends(path), named(runtime).program(threads)
    height, width, _ = form.image_shape
    return TEXT.format(
        name=PROGRAM,
        package=lines.package,
        imports=lines.imports,
        model=MODEL,
        labels=LABELS,
        load=lines.load,
        image=_indented(image_lines(height, width), 8),
        pixels=_pixels(form),
        answer=_indented(lines.answer, 4),
    )


def image_lines(height: int, width: int) -> str:
    """The lines that read the image file `path` as `image`, uint8 (height, width, 3), by `Image` and `np`."""
    return _IMAGE.format(width=width, height=height, turns=TURNS, orientation=ORIENTATION)


def output_in_words(path: Path) -> str:
    """How the logits leave the exported model: `of type float32`, or how to get them from integers."""
    form = ends(path)
    if not form.scale:
        return f"of type {form.output_dtype}"
    return f"as {form.output_dtype} (subtract {form.zero_point}, then multiply by {form.scale:.6g})"


def _indented(lines: str, blanks: int) -> str:
    return lines.replace("\n", "\n" + " " * blanks)


def _pixels(form: Ends) -> str:
    """From `image`, (h, w, 3), to what `Ends.pixels` makes of it."""
    if form.codes is None:
        return f'image[np.newaxis].astype("{form.input_dtype}")'
    limits = np.iinfo(form.input_dtype)
    codes = f"np.floor(image[np.newaxis] / {form.input_scale!r} + 0.5) + {form.input_zero_point}"
    return f'np.clip({codes}, {limits.min}, {limits.max}).astype("{form.input_dtype}")'
