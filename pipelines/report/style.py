"""The style of the report's figures: readable on a phone, in black and white, and by colour-blind people."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pipelines.system import fonts

# Okabe & Ito's palette without its black, which stands for emphasis, and its yellow, which is too light on white.
BLUE, ORANGE, GREEN, PINK, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
GREY = "#8a8a8a"
# Criterion -> colour and hatch, which distinguishes criteria in black and white.
CRITERIA_LOOK = {
    "accuracy": (BLUE, ""),
    "size": (ORANGE, "////"),
    "test_time": (GREEN, "...."),
    "train_time": (PINK, "xxxx"),
}
# Six colours and eleven shapes repeat together after 66 models. `page.js` draws the same shapes by these names.
COLOURS = (BLUE, VERMILION, GREEN, PINK, SKY, ORANGE)
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "p", "*", "<", ">")
WIDTH_IN = 5.2
DPI = 160
COLOURS_IN_A_FILE = 96
RC: dict[Any, Any] = {
    "figure.dpi": DPI,
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.5,
}
# In a figure with rows the words of a row are above its bar, so that long names fit on a phone.
ROW_IN = 0.36


@dataclass(frozen=True, kw_only=True)
class Look:
    """The colour and shape of one model in all figures."""

    colour: str
    shape: str


def looks(models: Iterable[str]) -> dict[str, Look]:
    """A look for each model, in the order of their names."""
    return {
        model: Look(colour=COLOURS[at % len(COLOURS)], shape=SHAPES[at % len(SHAPES)])
        for at, model in enumerate(sorted(set(models)))
    }


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    # `savefig` would compute the layout twice.
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    buffer = io.BytesIO()
    # A palette takes a third of the bytes.
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    picture = Image.fromarray(pixels[:, :, :3]).quantize(COLOURS_IN_A_FILE, Image.Quantize.FASTOCTREE)
    picture.save(buffer, "png", dpi=(DPI, DPI))
    return buffer.getvalue()


def in_style(families: Sequence[str] = ()) -> AbstractContextManager[object]:
    """A context with the report's style. families: fonts in addition to the default one."""
    return mpl.rc_context(RC | fonts.style(families))


def heading(figure: Figure, title: str) -> None:
    """Write the title across the whole figure: centred on the axes, a long one would be cut."""
    height = figure.get_size_inches()[1]
    figure.text(0.5, 1 - 0.2 / height, title, ha="center", va="center", fontsize=9.5, fontweight="bold")


def row_axes(figure: Figure, rows: int, *, top_in: float) -> Axes:
    """Axes as wide as the figure for `rows` rows; row i is centred on y = -i. top_in: from the figure's top edge."""
    width, height = figure.get_size_inches()
    # Half of the last tick's "100%" is beyond the axes.
    side = 0.2
    bottom = height - top_in - rows * ROW_IN
    axes = figure.add_axes((side / width, bottom / height, 1 - 2 * side / width, rows * ROW_IN / height))
    axes.set(ylim=(0.5 - rows, 0.5), yticks=[])
    axes.spines["left"].set_visible(False)
    return axes


def row_words(axes: Axes, left: Sequence[str], right: Sequence[str]) -> None:
    """Write words above each row's bar, at the left and at the right edge."""
    for index, (words, value) in enumerate(zip(left, right, strict=True)):
        place: dict[str, Any] = {
            "y": 0.3 - index,
            "transform": axes.get_yaxis_transform(),
            "va": "center",
            "fontsize": 7.5,
        }
        axes.text(x=0, s=words, ha="left", **place)
        axes.text(x=1, s=value, ha="right", fontweight="bold", **place)


def without_data(title: str, why: str) -> Figure:
    """A figure with the reason why there is nothing to draw."""
    figure = Figure(figsize=(WIDTH_IN, 1.1))
    figure.suptitle(title, fontsize=9.5, fontweight="bold")
    figure.text(0.5, 0.35, why, ha="center", va="center")
    return figure
