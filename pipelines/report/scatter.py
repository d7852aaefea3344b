"""The figure of a comparison as points: accuracy against test time and size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator, PercentFormatter

from pipelines.comparison.entries import Entry
from pipelines.comparison.ranking import Comparison
from pipelines.report.rows import baselines
from pipelines.report.style import GREY, WIDTH_IN, Look, heading
from pipelines.report.words import short_names, titled

# Below this ratio of the largest to the smallest value a logarithmic axis has too few ticks.
MIN_RATIO = 3.0
MIN_AREA, MAX_AREA = 18.0, 190.0
MAX_MODELS, MAX_NAME = 12, 28
HEIGHT_IN = 4.3
LEGEND_COLUMNS, LEGEND_ROW_IN = 3, 0.165
# Each label takes 10 ms to place.
MAX_LABELLED = 30
# With more cells the lines to their baselines hide the rest.
MAX_LINKED = 60
# An axis of accuracies up to this long has all cells.
MIN_SPAN = 0.2
# An axis is at least so long: one test image, or the noise of one time, must not fill it.
MIN_POINTS, MIN_FACTOR = 0.02, 1.2


def scatter(comparison: Comparison, looks: Mapping[str, Look]) -> Figure:
    """Accuracy of all cells over test time; a point's area grows with the compressed size.

    Cells on the Pareto front are filled, and the best have their name or rank.
    """
    entries = comparison.entries
    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN))
    axes = figure.add_axes((0, 0, 1, 1))
    areas, names, times = (
        areas_of([entry.compressed_bytes.value for entry in entries]),
        short_names(comparison),
        [entry.test_ms.value for entry in entries],
    )
    on_front = [entry.label in comparison.front for entry in entries]
    best = [e.accuracy.value for e, on in zip(entries, on_front, strict=True) if on and not e.uninformed]
    lowest = _lowest([entry.accuracy.value for entry in entries], best)
    # The front is on top, its best cells last.
    order = sorted(range(len(entries)), key=lambda at: (on_front[at], -at))
    shown = [at for at in order if entries[at].accuracy.value >= lowest]
    if len(shown) <= MAX_LINKED:
        place = {at: (times[at], entries[at].accuracy.value) for at in shown}
        pairs = [(at, base) for at, base in enumerate(baselines(entries)) if base is not None]
        links = [(place[at], place[base]) for at, base in pairs if {at, base} <= place.keys()]
        axes.add_collection(LineCollection(links, colors="#b0b0b0", linewidths=0.7, zorder=2))
    _points(axes, [(entries[at], on_front[at]) for at in shown], looks, [areas[at] for at in shown])
    below = [time for time, entry in zip(times, entries, strict=True) if entry.accuracy.value < lowest]
    low, high = ends_of([entries[at].accuracy.value for at in shown], MIN_POINTS)
    fastest, slowest = ends_of(times, (MIN_FACTOR - 1) * min(times))
    axes.update_datalim([(fastest, max(0.0, low)), (slowest, min(1.0, high))])
    axes.margins(0.06)
    if below:
        axes.set_ylim(axes.get_ylim())
        axes.plot(below, [0.02] * len(below), "v", color=GREY, markersize=4, transform=axes.get_xaxis_transform())
    axes.set(xlabel="test time of one image in ms", ylabel="accuracy")
    heading(figure, titled(comparison.title, "accuracy against test time"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    scale_times(axes, times)
    _place(axes, _legend(figure, entries, looks, below=len(below)))
    words = [[text for text in (names[e.label], e.technique) if len(text) <= MAX_NAME] for e in entries]
    front = [at for at, on in enumerate(on_front) if on][:MAX_LABELLED]
    _label(axes, [([*words[at], f"#{at + 1}"], times[at], entries[at].accuracy.value) for at in front])
    return figure


def ends_of(values: Sequence[float], least: float) -> tuple[float, float]:
    """The ends of an axis that holds the values and is at least so long."""
    low, high = min(values), max(values)
    room = max(0.0, least - (high - low)) / 2
    return low - room, high + room


def _lowest(accuracies: Sequence[float], front: Sequence[float]) -> float:
    """The least accuracy on the axis: cells below a gap of more than half of it, few and none of the front, are not."""
    values = np.sort(accuracies)
    span = values[-1] - values[0]
    gaps = np.flatnonzero(np.diff(values) > span / 2)
    if not len(gaps) or span <= MIN_SPAN or (gaps[0] + 1) * 3 > len(values) or min(front, default=1) <= values[gaps[0]]:
        return float(values[0])
    return float(values[gaps[0] + 1])


def _points(
    axes: Axes, points: Sequence[tuple[Entry, bool]], looks: Mapping[str, Look], areas: Sequence[float]
) -> None:
    """Draw entries, each with whether it is on the front, the last ones on top.

    They are one collection: thousands of collections take Matplotlib half a minute.
    """
    colours = [looks[entry.model].colour if entry.feasible else GREY for entry, _ in points]
    fronts = [on_front for _, on_front in points]
    collection = axes.scatter(
        [entry.test_ms.value for entry, _ in points],
        [entry.accuracy.value for entry, _ in points],
        s=areas,
        facecolors=[colour if on_front else "white" for colour, on_front in zip(colours, fronts, strict=True)],
        edgecolors=["black" if on_front else colour for colour, on_front in zip(colours, fronts, strict=True)],
        linewidths=[0.8 if on_front else 1.0 for on_front in fronts],
        zorder=3,
    )
    markers = {look.shape: MarkerStyle(look.shape) for look in looks.values()}
    paths = {shape: marker.get_path().transformed(marker.get_transform()) for shape, marker in markers.items()}
    collection.set_paths([paths[looks[entry.model].shape] for entry, _ in points])


def areas_of(counts: Sequence[float]) -> list[float]:
    """The areas of points that grow with numbers of bytes."""
    sizes = np.log([max(1.0, count) for count in counts])
    spread = float(np.ptp(sizes))
    shares = (sizes - sizes.min()) / spread if spread else np.full(len(sizes), 0.3)
    return [float(area) for area in MIN_AREA + shares * (MAX_AREA - MIN_AREA)]


def scale_times(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers if the values differ enough, else a linear one."""
    low, high = min(values), max(values)
    if low <= 0 or high / low < MIN_RATIO:
        axes.xaxis.set_major_locator(MaxNLocator(6))
        return
    axes.set_xscale("log")
    few = high / low < 100
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if few:
        axes.xaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, entries: Sequence[Entry], looks: Mapping[str, Look], *, below: int) -> int:
    """Draw the legend below the axes and return its number of rows."""

    def handle(label: str, shape: str = "o", *, face: str = "white", edge: str = "black") -> Line2D:
        return Line2D(
            [], [], linestyle="", marker=shape, markersize=6, label=label, markerfacecolor=face, markeredgecolor=edge
        )

    models = sorted({entry.model for entry in entries})
    handles = [handle(m, looks[m].shape, face=looks[m].colour) for m in models[:MAX_MODELS]]
    if len(models) > MAX_MODELS:
        handles.append(Line2D([], [], linestyle="", label=f"and {len(models) - MAX_MODELS} more models"))
    handles.append(handle("filled: Pareto front", face="black"))
    handles.append(handle("hollow: dominated"))
    if not all(entry.feasible for entry in entries):
        handles.append(handle("grey: over budget", face=GREY, edge=GREY))
    if below:
        handles.append(handle(f"{below} far below, on the lower edge", "v", face=GREY, edge=GREY))
    figure.legend(handles=handles, loc="lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=7.5)
    return math.ceil(len(handles) / LEGEND_COLUMNS)


def _place(axes: Axes, legend_rows: int) -> None:
    """Place the axes within labels and legend by hand: Matplotlib's own layout takes a third of a second."""
    left, right, top, bottom = 0.75 / WIDTH_IN, 0.08 / WIDTH_IN, 0.32, 0.65 + LEGEND_ROW_IN * legend_rows
    axes.set_position((left, bottom / HEIGHT_IN, 1 - left - right, (HEIGHT_IN - bottom - top) / HEIGHT_IN))
    # The places of the labels depend on the scale, which is otherwise set when the figure is drawn.
    axes.autoscale_view()


def _label(axes: Axes, points: Sequence[tuple[Sequence[str], float, float]]) -> None:
    """Write the first of each point's words that cover no such point and no other label."""
    per_pt = axes.figure.dpi / 72
    places = [axes.transData.transform((x, y)) / per_pt for _, x, y in points]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    edges = axes.bbox.transformed(axes.figure.dpi_scale_trans.inverted()).extents * 72
    for (words, *point), (x, y) in zip(points, places, strict=True):
        for text in words:
            width = 4.2 * len(text)
            offsets = ((6, 0), (-6 - width, 0), (-width / 2, 9), (-width / 2, -9), (5, 7), (5, -7), (-5 - width, 7))
            boxes = {at: (x + at[0], y + at[1] - 4, x + at[0] + width, y + at[1] + 4) for at in offsets}
            free = [
                (at, box)
                for at, box in boxes.items()
                if box[0] >= edges[0] and box[2] <= edges[2] and not any(_overlap(box, other) for other in taken)
            ]
            if free:
                at, box = free[0]
                taken.append(box)
                axes.annotate(
                    text,
                    (point[0], point[1]),
                    xytext=at,
                    textcoords="offset points",
                    va="center",
                    fontsize=7,
                    zorder=4,
                    path_effects=[withStroke(linewidth=1.5, foreground="white")],
                )
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
