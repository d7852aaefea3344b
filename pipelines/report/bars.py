"""Figures of a comparison as bars: the ranking, and its sensitivity to the score's weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from pipelines.comparison.entries import Entry
from pipelines.comparison.ranking import Comparison
from pipelines.report.style import BLUE, CRITERIA_LOOK, ROW_IN, WIDTH_IN, heading, row_axes, row_words, without_data
from pipelines.report.words import decibels, short_names, shorten, titled
from pipelines.results.columns import CRITERION
from pipelines.results.score import apart_from

MAX_RANKED = 30
MAX_FIRST, MIN_SHARE = 8, 0.005
BAR = 0.36
# Distance of a bar below its row's words.
BELOW = 0.14
# Exponents are drawn up to this multiple, or this fraction, of the one that was used.
MAX_FACTOR = 30.0


def ranking(comparison: Comparison) -> Figure:
    """The score as a bar of its terms, the best cell first; the diamond is their sum."""
    what = "score by criterion"
    shown = list(enumerate(comparison.entries, start=1))[:MAX_RANKED]
    if len(shown) < len(comparison.entries):
        what += f", best {len(shown)} of {len(comparison.entries)}"
    figure = Figure(figsize=(WIDTH_IN, 0.75 + len(shown) * ROW_IN + 0.5))
    axes = row_axes(figure, len(shown), top_in=0.75)
    rows = -np.arange(len(shown), dtype=np.float64) - BELOW
    _stacks(axes, [entry for _, entry in shown], rows)
    axes.set_xlim(axes.get_xlim())
    # A line through all rows would strike out the words.
    axes.vlines(np.zeros(len(rows)), rows - BAR / 2 - 0.05, rows + BAR / 2 + 0.05, color="black", linewidth=1.2)
    axes.set_xlabel("decibel (dB); right of 0 adds to the score, left of it takes away")
    names = short_names(comparison)
    row_words(
        axes,
        [f"{rank}. {shorten(names[e.label])}{_remark(e, comparison)}" for rank, e in shown],
        [decibels(entry.score.value) for _, entry in shown],
    )
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="black", linewidth=0.4, label=CRITERION[name])
        for name, (colour, hatch) in CRITERIA_LOOK.items()
        if name in shown[0][1].terms
    ]
    heading(figure, titled(comparison.title, what))
    height = figure.get_size_inches()[1]
    figure.legend(handles=handles, ncols=4, loc="center", bbox_to_anchor=(0.5, 1 - 0.48 / height), frameon=False)
    return figure


def sensitivity(comparison: Comparison) -> Figure:
    """Which cells lead under other weights, and the change of one exponent that makes another cell lead."""
    title = titled(comparison.title, "what other weights would change")
    names = {label: shorten(name) for label, name in short_names(comparison).items()}
    shares = sorted(comparison.rank_acceptability.items(), key=lambda item: -item[1])
    shown = [(names[label], share) for label, share in shares[:MAX_FIRST] if share >= MIN_SHARE]
    if not shown:
        return without_data(title, "No cell within its budgets has a score.")
    rest = 1 - sum(share for _, share in shown)
    if rest >= MIN_SHARE:
        shown.append(("all other cells", rest))
    gap, top = 0.8, 0.45
    rows = len(shown) + len(comparison.weight_flips)
    figure = Figure(figsize=(WIDTH_IN, top + rows * ROW_IN + gap + 0.5))
    heading(figure, title)
    upper = row_axes(figure, len(shown), top_in=top)
    upper.barh([-index - BELOW for index in range(len(shown))], [share for _, share in shown], height=BAR, color=BLUE)
    upper.set(xlim=(0, 1), xlabel="share of all weightings under which the cell ranks first")
    upper.xaxis.set_major_formatter("{x:.0%}")
    row_words(upper, [name for name, _ in shown], [f"{share:.0%}" for _, share in shown])
    lower = row_axes(figure, len(comparison.weight_flips), top_in=top + len(shown) * ROW_IN + gap)
    _weight_flips(lower, comparison, names)
    return figure


def _stacks(axes: Axes, entries: Sequence[Entry], rows: npt.NDArray[np.float64]) -> None:
    """Each entry's terms as a bar in its row, the score as a diamond with its interval."""
    boxes: dict[str, list[list[tuple[float, float]]]] = {name: [] for name in CRITERIA_LOOK}
    for entry, y in zip(entries, rows, strict=True):
        ends = {True: 0.0, False: 0.0}
        for name, value in entry.terms.items():
            left, right = ends[value > 0], ends[value > 0] + value
            low, high = y - BAR / 2, y + BAR / 2
            boxes[name].append([(left, low), (right, low), (right, high), (left, high)])
            ends[value > 0] = right
    for name, (colour, hatch) in CRITERIA_LOOK.items():
        if not boxes[name]:
            continue  # left out of the score
        # One path for all rows: preparing a hatch is slow.
        path = Path.make_compound_path_from_polys(np.array(boxes[name]))
        bars = axes.add_patch(PathPatch(path, facecolor=colour, hatch=hatch, edgecolor="black", linewidth=0.4))
        bars.sticky_edges.x.append(0)
    axes.autoscale_view(scaley=False)
    known = [(y, entry.score) for entry, y in zip(entries, rows, strict=True) if not math.isnan(entry.score.low)]
    axes.hlines(
        [y for y, _ in known], [s.low for _, s in known], [s.high for _, s in known], color="black", linewidth=1.2
    )
    scores = [entry.score.value for entry in entries]
    axes.plot(scores, rows, linestyle="", marker="D", markersize=4.5, color="black", markeredgecolor="white")


def _remark(entry: Entry, comparison: Comparison) -> str:
    if not entry.feasible:
        return " (over budget)"
    if entry.uninformed:
        return " (nothing learnt)"
    return " (tied)" if entry.label in comparison.ties else ""


def _weight_flips(axes: Axes, comparison: Comparison, names: dict[str, str]) -> None:
    """Each exponent, and the value at which another cell leads."""
    words = []
    for index, flip in enumerate(comparison.weight_flips):
        y = -index - BELOW
        axes.plot([1 / MAX_FACTOR, MAX_FACTOR], [y, y], color="#cccccc", linewidth=0.8, zorder=1)
        if flip.before > 0:
            axes.plot(1, y, marker="o", markersize=5, color="black", zorder=3)
        text = f"{CRITERION[flip.criterion]} {flip.before:g}"
        if math.isnan(flip.after):
            text += ": no other exponent changes the leader"
        else:
            text += f" → {apart_from(flip.after, flip.before, '.3g')}: {names[flip.winner]}"
        if flip.before > 0 and flip.after > 0:
            factor = min(MAX_FACTOR, max(1 / MAX_FACTOR, flip.after / flip.before))
            axes.plot([1, factor], [y, y], color=BLUE, linewidth=2.5, zorder=2)
            axes.plot(factor, y, marker=">" if factor > 1 else "<", markersize=7, color=BLUE, zorder=3)
        words.append(shorten(text, 78))
    axes.set_xscale("log")
    axes.set(xlim=(1 / MAX_FACTOR, MAX_FACTOR), xlabel="exponent, as a multiple of the one that was used (dot)")
    ticks = (0.1, 0.3, 1, 3, 10)
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    row_words(axes, words, [""] * len(words))
