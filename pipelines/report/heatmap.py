"""The figure of a comparison as a grid: the best score of each pair of model and technique."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from pipelines.comparison.ranking import Comparison
from pipelines.report.style import WIDTH_IN, without_data
from pipelines.report.words import shorten, titled
from pipelines.system.words import listed, number_of

MAX_TECHNIQUES, MAX_MODELS = 30, 12
MIN_SPAN_DB = 3.0


def heatmap(comparison: Comparison) -> Figure:
    """The score of the best eligible cell of each model and technique; pairs without one are hatched."""
    title = titled(comparison.title, "best score in dB")
    best: dict[tuple[str, str], float] = {}
    for entry in comparison.eligible:
        # The first one is the best, as entries are sorted by falling score.
        best.setdefault((entry.technique, entry.model), entry.score.value)
    if not best:
        return without_data(title, "No cell has learnt something within its budgets.")
    techniques, models = list(dict.fromkeys(t for t, _ in best)), list(dict.fromkeys(m for _, m in best))
    left_out = max(0, len(techniques) - MAX_TECHNIQUES), max(0, len(models) - MAX_MODELS)
    techniques, models = techniques[:MAX_TECHNIQUES], models[:MAX_MODELS]
    if any(left_out):
        counts = zip(left_out, ("technique", "model"), strict=True)
        title += f"\nwithout the weakest {listed(number_of(count, what) for count, what in counts if count)}"
    values = np.array([[best.get((t, m), math.nan) for m in models] for t in techniques])
    figure = Figure(figsize=(WIDTH_IN, 1.5 + 0.26 * len(techniques)), layout=ConstrainedLayoutEngine(h_pad=0.1))
    axes = figure.subplots()
    known = values[~np.isnan(values)]
    high = float(known.max())
    # Scores far below the upper half are of cells that learnt nothing. A small difference must not look large.
    low = min(max(float(known.min()), 3 * float(np.median(known)) - 2 * high), high - MIN_SPAN_DB)
    axes.imshow(values, cmap="Blues", vmin=low, vmax=high, aspect="auto", zorder=1)
    for (row, column), value in np.ndenumerate(values):
        if math.isnan(value):
            hatched: dict[str, Any] = {"hatch": "////", "facecolor": "white", "edgecolor": "#c8c8c8", "linewidth": 0}
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **hatched))
            continue
        dark = (value - low) / (high - low) > 0.55
        first = value == high
        axes.text(
            column,
            row,
            f"{value:.1f}",
            ha="center",
            va="center",
            color="white" if dark else "black",
            fontsize=7.5 if len(models) <= 8 else 6,
            fontweight="bold" if first else "normal",
        )
        if first:
            axes.add_patch(
                Rectangle((column - 0.46, row - 0.42), 0.92, 0.84, fill=False, edgecolor="black", linewidth=1.6)
            )
    turned: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if len(models) > 3 else {}
    axes.set_xticks(range(len(models)), [shorten(m, 24) for m in models], fontsize=7.5, **turned)
    axes.set_yticks(range(len(techniques)), [shorten(t, 30) for t in techniques], fontsize=7.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=9.5, fontweight="bold")
    return figure
