"""The figures of the study of the article's networks, from its rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, PercentFormatter

from handbook.article_page import DATASETS, TECHNIQUES, models, timed_together
from handbook.rows import Row
from pipelines.report.scatter import areas_of, ends_of, scale_times
from pipelines.report.style import GREY, Look, heading, looks
from pipelines.results.recorded_cell import BASELINE

WIDTH_IN, ROW_IN = 7.4, 0.3
# Of the three panels: what, the column of the rows, and the ticks of a logarithmic axis.
PANELS = (
    ("accuracy, points", "accuracy_difference", ()),
    ("test time, ratio", "time_ratio", (0.25, 0.5, 1, 2)),
    ("compressed size, ratio", "size_ratio", (0.03, 0.1, 0.3, 1)),
)
# Points of accuracy; cells that lose more are on the edge.
MAX_LOSS = 10.0
# The axis reaches so far to both sides of 0 at least: chance must not fill it.
MIN_POINTS = 2.0


def effects(rows: Sequence[Row], dataset: str) -> Figure:
    """What each technique does to accuracy, test time and compressed size, a point for each network."""
    there = [row for row in rows if row.dataset == dataset and row.technique in TECHNIQUES[1:]]
    techniques = [name for name in TECHNIQUES if any(row.technique == name for row in there)]
    appearance = looks(models(rows))
    height = 1.35 + ROW_IN * len(techniques)
    figure = Figure(figsize=(WIDTH_IN, height))
    heading(figure, f"{DATASETS[dataset]}: change against the network's own baseline")
    left, gap = 1.5 / WIDTH_IN, 0.22 / WIDTH_IN
    width = (1 - left - 3 * gap) / 3
    for at, (what, name, ticks) in enumerate(PANELS):
        axes = figure.add_axes((left + at * (width + gap), 1.0 / height, width, 1 - 1.35 / height))
        known = [row for row in there if not math.isnan(row.number(name))]
        _panel(axes, known, techniques, name, appearance)
        axes.set(xlabel=what, ylim=(len(techniques) - 0.5, -0.5))
        axes.set_yticks(range(len(techniques)), techniques if at == 0 else [""] * len(techniques))
        values = [row.number(name) for row in known]
        if ticks:
            axes.set_xscale("log")
            axes.set_xlim(0.85 * min(*values, ticks[0]), 1.2 * max(*values, ticks[-1]))
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            lowest, highest = max(100 * min(values), -MAX_LOSS), 100 * max(values)
            axes.set_xlim(min(lowest, -MIN_POINTS) - 0.4, max(highest, MIN_POINTS) + 0.4)
        axes.axvline(1 if ticks else 0, color="black", linewidth=0.8, zorder=1)
    _legend(figure, {row.model for row in there}, appearance)
    return figure


def accuracies(rows: Sequence[Row], dataset: str) -> Figure:
    """The accuracy of every cell of a technique of the study over its test time; larger points are larger files.

    Of the cells whose times are of one session.
    """
    of_dataset = [row for row in rows if row.dataset == dataset and row.technique in TECHNIQUES]
    there = timed_together(of_dataset)
    appearance = looks(models(rows))
    figure = Figure(figsize=(WIDTH_IN, 4.2))
    heading(figure, f"{DATASETS[dataset]}: accuracy against test time; filled: the baseline")
    axes = figure.add_axes((0.8 / WIDTH_IN, 0.95 / 4.2, 1 - 0.95 / WIDTH_IN, 1 - 1.3 / 4.2))
    areas = areas_of([row.number("compressed_bytes") for row in there])
    for row, area in zip(there, areas, strict=True):
        look = appearance[row.model]
        filled = row.technique == BASELINE
        axes.scatter(
            row.number("test_ms"),
            row.number("accuracy"),
            s=area,
            marker=look.shape,
            facecolors=look.colour if filled else "none",
            edgecolors="black" if filled else look.colour,
            linewidths=0.9,
            zorder=3,
        )
    scale_times(axes, [row.number("test_ms") for row in there])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.set(xlabel="test time of one image in ms", ylabel="accuracy")
    axes.set_ylim(*ends_of(axes.get_ylim(), 2 * MIN_POINTS / 100))
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    _legend(figure, {row.model for row in there}, appearance)
    return figure


def _panel(
    axes: Axes, rows: Sequence[Row], techniques: Sequence[str], name: str, appearance: Mapping[str, Look]
) -> None:
    points = name == "accuracy_difference"
    for number in range(len(techniques)):
        axes.axhline(number, color="#dddddd", linewidth=0.7, zorder=0)
    of_row = {technique: sorted(row.model for row in rows if row.technique == technique) for technique in techniques}
    beyond: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        value = 100 * row.number(name) if points else row.number(name)
        look = appearance[row.model]
        # Networks one below the other, or equal ones would hide each other.
        networks = of_row[row.technique]
        offset = 0.56 * ((networks.index(row.model) + 0.5) / len(networks) - 0.5)
        outside = points and value < -MAX_LOSS
        how: dict[str, Any] = {"marker": look.shape, "color": look.colour, "s": 20, "zorder": 3, "linewidths": 0.9}
        if points and row.marks.get("accuracy") == "tied":
            how |= {"facecolors": "white"}
        place = techniques.index(row.technique) + offset
        axes.scatter(max(value, -MAX_LOSS) if points else value, place, **how)
        if outside:
            beyond[row.technique][row.model] = f"{value:.0f}"
    for technique, values in beyond.items():
        # From the first network down.
        label = ", ".join(values[model] for model in sorted(values))
        axes.annotate(
            label, (-MAX_LOSS, techniques.index(technique)), xytext=(5, 0), textcoords="offset points", fontsize=6.5,
            va="center", color=GREY, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _legend(figure: Figure, networks: set[str], appearance: Mapping[str, Look]) -> None:
    handles = [
        Line2D(
            [], [], linestyle="", marker=appearance[one].shape, color=appearance[one].colour, markersize=5, label=one
        )
        for one in sorted(networks)
    ]
    figure.legend(handles=handles, loc="lower center", ncols=5, frameon=False, fontsize=8)
