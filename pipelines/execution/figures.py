"""Figures of one cell: comparison with its baseline, training curves, confusion matrix, latency histogram."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from wcwidth import clip
from wcwidth import width as columns

from pipelines.litert import accuracy
from pipelines.report.style import BLUE, VERMILION
from pipelines.system import fonts
from pipelines.system.words import one_line

if TYPE_CHECKING:
    from pipelines.datasets.base import ImageData
    from pipelines.results.cell_result import BaselineComparison, Measurement
    from pipelines.results.folder import Finished

MAX_TICKS = 25
# Layers in the figure of sensitivity; a longer one could not be read on a page.
MAX_LAYERS = 40
# A longer class name is cut, in columns of a terminal: Chinese characters take two.
MAX_LABEL_COLUMNS = 24
# Lists each class's number and name, where the figures do not show every name in full.
CLASSES = "classes.txt"

log = logging.getLogger("opscore")


def draw(finished: Finished, data: ImageData, folder: Path) -> None:
    """Write all figures of the cell as PNG into `folder`. A figure that fails only logs a warning."""
    folder.mkdir(parents=True, exist_ok=True)
    result, files = finished.result, finished.files

    def confusion() -> Figure:
        with np.load(files.predictions, allow_pickle=False) as arrays:
            counts = accuracy.confusion_matrix(arrays["logits"], data.test.labels, len(data.class_names))
        return confusion_matrix(counts, data.class_names)

    def latencies() -> Figure:
        with np.load(files.latency, allow_pickle=False) as arrays:
            timed = [name for name in ("candidate", "reference") if name in arrays.files]
            return latency_histogram({name: arrays[name] / 1e6 for name in timed}, result.technique)

    if (comparison := result.comparison) is not None:
        # MLflow lists files by name, so this one is the first.
        save(lambda: against_baseline(result.measurement, comparison), folder / "against_baseline.png")
    if result.epochs:
        save(lambda: training_curves(result.epochs), folder / "training.png")
    save(confusion, folder / "confusion_matrix.png")
    save(latencies, folder / "latency.png")
    sensitivity = files.tables / "sensitivity.json"
    if sensitivity.is_file():
        save(lambda: sensitivity_bars(json.loads(sensitivity.read_text())), folder / "sensitivity.png")
    labels, _ = class_labels(data.class_names)
    if labels != list(data.class_names):
        lines = [f"{number}\t{name}" for number, name in enumerate(data.class_names)]
        (folder / CLASSES).write_text("\n".join(lines) + "\n", encoding="utf-8")


def save(make: Callable[[], Figure], path: Path) -> None:
    """Draw a figure and write it as PNG, or log a warning where that fails."""
    try:
        with mpl.rc_context(fonts.style(())):
            make().savefig(path, dpi=150)
    except Exception as error:  # noqa: BLE001 (whatever Matplotlib raises)
        path.unlink(missing_ok=True)
        log.warning("the figure %s could not be drawn (%s): all else is kept", path, one_line(error))


def class_labels(class_names: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The labels of the classes in a figure, and the fonts that they need in addition to the default one.

    A name that no font can draw becomes the class's number; a long name is cut.
    """
    families, missing = fonts.find_families(class_names)
    labels = [f"class {number}" if missing & set(name) else _cut(name) for number, name in enumerate(class_names)]
    return labels, families


def against_baseline(measurement: Measurement, comparison: BaselineComparison) -> Figure:
    """Test time and compressed size as shares of the baseline's, with both accuracies in the title."""
    size = measurement.compressed_bytes / comparison.baseline_compressed_bytes
    shares = {"test time": comparison.latency_ratio, "compressed size": size}
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(shares), list(shares.values()), height=0.5, color=BLUE)
    axes.bar_label(bars, [f"x {share:.3f}" for share in shares.values()], padding=3)
    axes.axvline(1, color=VERMILION, linestyle="--", label="baseline")
    axes.invert_yaxis()
    axes.set(
        xlabel="share of the baseline's",
        xlim=(0, 1.2 * max(1.0, *shares.values())),
        title=f"accuracy {measurement.accuracy:.1%}, its baseline's {comparison.baseline_accuracy:.1%}",
    )
    axes.legend(frameon=False, loc="lower right")
    return figure


def sensitivity_bars(table: Mapping[str, Sequence[Any]]) -> Figure:
    """The logits' signal to noise with each layer alone in 8 bits, the most sensitive layers first.

    table: the columns `layer`, `snr_db` and `accuracy_change` of `quantization.sensitivity.table`.
    """
    names, values, changes = (list(table[name])[:MAX_LAYERS] for name in ("layer", "snr_db", "accuracy_change"))
    left = len(table["layer"]) - len(names)
    figure = Figure(figsize=(7, 1.2 + 0.22 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([_cut(name) for name in names], values, height=0.7, color=BLUE)
    axes.bar_label(bars, [f"{100 * change:+z.1f} points" for change in changes], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set(
        xlabel="signal to noise of the logits in dB; labels: the change of accuracy",
        xlim=(0, 1.2 * max(values)),
        title="one layer alone in 8 bits" + (f", without the {left} least sensitive ones" if left else ""),
    )
    return figure


def training_curves(epochs: Sequence[dict[str, float]]) -> Figure:
    """Loss and accuracy by epoch, training and validation."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    steps = range(1, len(epochs) + 1)
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for prefix, label, form, color in (("", "training", "-o", BLUE), ("val_", "validation", "--s", VERMILION)):
            values = [epoch[prefix + metric] for epoch in epochs]
            axes.plot(steps, values, form, color=color, markersize=3, label=label)
        axes.set(xlabel="epoch", ylabel=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def confusion_matrix(confusion: npt.NDArray[np.int64], class_names: Sequence[str]) -> Figure:
    """Share of each true class (row) by predicted class (column), with the counts where they fit."""
    classes, (labels, families) = len(class_names), class_labels(class_names)
    where = "" if labels == list(class_names) else f" (names in {CLASSES})"
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    side = 5.5 if classes <= MAX_TICKS else 8
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    step = 1 if classes <= MAX_TICKS else classes // MAX_TICKS + 1
    ticks = range(0, classes, step)
    style: dict[str, Any] = {"fontsize": 8, "fontfamily": [fonts.DEFAULT, *families]}
    axes.set_xticks(ticks, [labels[i] for i in ticks], rotation=90, **style)
    axes.set_yticks(ticks, [labels[i] for i in ticks], **style)
    axes.set(xlabel=f"predicted{where}", ylabel="true", title=f"accuracy {np.trace(confusion) / confusion.sum():.1%}")
    if classes <= MAX_TICKS:
        for (row, column), count in np.ndenumerate(confusion):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=7)
    return figure


def breakdown(seconds: Mapping[str, float]) -> Figure:
    """Seconds of the cell's wall time by part, with their share."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    total = sum(seconds.values())
    bars = axes.barh(list(seconds), list(seconds.values()), color=BLUE)
    labels = [f"{value:.1f} s, {value / total:.0%}" for value in seconds.values()]
    axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set(xlabel="seconds", title=f"where {total:.1f} s went")
    return figure


def latency_histogram(latencies_ms: dict[str, npt.NDArray[np.float64]], technique: str) -> Figure:
    """Latency of single images, up to the 99.5th percentile, with the medians."""
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    styles = {"candidate": (technique, BLUE, "-"), "reference": ("baseline", VERMILION, "--")}
    limit = max(np.percentile(values, 99.5) for values in latencies_ms.values())
    bins = np.linspace(min(values.min() for values in latencies_ms.values()), limit, 80)
    for key, values in latencies_ms.items():
        name, colour, line = styles[key]
        median = float(np.median(values))
        label = f"{name}, median {median:.4g} ms"
        axes.hist(values, bins=list(bins), histtype="step", color=colour, linestyle=line, linewidth=1.5, label=label)
        axes.axvline(median, color=colour, linestyle=line, linewidth=0.8)
    axes.set(xlabel="latency of one image in ms", ylabel="calls")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _cut(name: str) -> str:
    return name if columns(name) <= MAX_LABEL_COLUMNS else clip(name, 0, MAX_LABEL_COLUMNS - 1).rstrip() + "…"
