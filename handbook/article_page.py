"""The pages of the study of the article's networks: their tables and sentences, from the study's rows.

The rows are in files that `opscore compare --into` wrote, one for each session of `opscore measure`. Ratios and
differences in a file are against the baseline in the same file. By those ratios, and by cells of the other dataset, the
times of one session become those of another.
"""

from __future__ import annotations

import math
import re
import statistics
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from handbook import ROOT
from handbook.rows import Row, read
from pipelines.comparison import article
from pipelines.results.columns import milliseconds, seconds, three_digits
from pipelines.results.recorded_cell import BASELINE
from pipelines.results.score import decibels
from pipelines.results.tables import fill_marks, markdown
from pipelines.system.words import number_of

# That of most cells first: the times of its cells are in the tables.
ROWS = ("docs/article-2.csv", "docs/article-3.csv", "docs/article-4.csv", "docs/article-5.csv", "docs/article.csv")
PAGES = ("README.md", "docs/article.md", "docs/article-tables.md")
# The network of README's table.
SHOWN = "efficientnet_lite0"
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
LARGE = ("resnet50", "resnet101", "vgg16", "vgg19")
TECHNIQUES = (
    BASELINE, "transfer", "quantize_dynamic", "quantize_float16", "quantize_int8", "quantize_mixed", "cluster", "qat",
    "cqat", "prune", "prune_quantize_int8", "prune_cluster", "pcqat",
)  # fmt: skip
LAYER_TRANSFER = "layer_transfer"
# Points of accuracy below the most accurate cell.
ALLOWANCES = (0, 1, 2, 5)
MARK = r"article: (?P<name>[a-z ]+?)(?: (?P<dataset>cifar100?))?"
NONE = "-"
TIMES = ("test_ms", "train_s")
# Of each of them in the score, as in conf/score/netscore.yaml.
EXPONENT = 0.25
COLUMNS = 100
# tfmot's guide gives 94.88% in float, and 94.48%, 94.80%, 94.60% and 94.65% for clustered, QAT, CQAT and int8.
TFMOT = "[tfmot](https://www.tensorflow.org/model_optimization/guide/combine/collaborative_optimization), MobileNetV1"
DEEP_COMPRESSION = "Han et al. 2016, arXiv:1510.00149, ImageNet"


def main() -> None:
    """Rewrite the pages of the checkout."""
    for path, text in pages(ROOT):
        path.write_text(text)


def pages(root: Path) -> Iterator[tuple[Path, str]]:
    """The path and the new text of each page below `root`."""
    rows = rows_of(root)
    for page in PAGES:
        yield root / page, written((root / page).read_text(), rows)


def rows_of(root: Path) -> list[Row]:
    """The rows of all files below `root`. Of a cell that several have, the first file's.

    A later file's cell gets the times that it would have in an earlier one's session: by its ratios to the baseline, if
    that is there too, else by the same cell of the other dataset (`_carried`).
    """
    rows: list[Row] = []
    for path in ROWS:
        earlier = {_cell(row): row for row in rows}
        bases = {(row.dataset, row.model): row for row in rows if row.technique == BASELINE}
        of_file = read((root / path).read_text())
        carried = {_cell(row): row for row in _carried(of_file, earlier)}
        for row in (one for one in of_file if _cell(one) not in earlier):
            base = bases.get((row.dataset, row.model))
            if base is None and _cell(row) in carried:
                rows.append(carried[_cell(row)])
            elif base := base or carried.get((row.dataset, row.model, BASELINE, "", "")):
                rows.append(_by_ratios(row, base))
            else:
                # Two sessions may be of machines of one name.
                rows.append(row if path == ROWS[0] else replace(row, values={**row.values, "measured_on": path}))
    return rows


def _cell(row: Row) -> tuple[str, ...]:
    return row.dataset, row.model, row.technique, row.source, row.values["settings"]


def _carried(rows: Sequence[Row], earlier: Mapping[tuple[str, ...], Row]) -> Iterator[Row]:
    """Rows of a later file with the times that they would have in an earlier session.

    A machine tests and trains a network on both datasets in nearly the same time, so both times change by the factor of
    the same cell of the other dataset, where both files have one.
    """
    for row in rows:
        for here in rows:
            there = earlier.get(_cell(here))
            if here.dataset != row.dataset and _cell(here)[1:] == _cell(row)[1:] and there is not None:
                factors = {name: there.number(name) / here.number(name) for name in TIMES}
                times = {name: row.number(name) * factor for name, factor in factors.items()}
                score = row.number("score") - sum(decibels(EXPONENT, math.log10(one)) for one in factors.values())
                yield _timed(row, there, {**times, "score": score})


def _by_ratios(row: Row, base: Row) -> Row:
    times = {
        "test_ms": base.number("test_ms") * row.number("time_ratio"),
        "train_s": base.number("train_s") * row.number("train_ratio"),
        "score": base.number("score") + row.number("gain"),
    }
    return _timed(row, base, times)


def _timed(row: Row, like: Row, times: Mapping[str, float]) -> Row:
    """The row with other times, of the session of another row."""
    texts = {name: f"{value:.15g}" for name, value in times.items()}
    return replace(row, values={**row.values, **texts, "measured_on": like.values["measured_on"]})


def timed_together(rows: Sequence[Row]) -> list[Row]:
    """The rows whose times are of one session: that of most."""
    sessions = Counter(row.values["measured_on"] for row in rows)
    largest = max(sessions, key=lambda one: sessions[one], default="")
    return [row for row in rows if row.values["measured_on"] == largest]


def written(page: str, rows: Sequence[Row]) -> str:
    """The page with the text at each of its marks written anew. Raises ValueError at a mark of an unknown name."""
    parts: dict[str, Callable[[Sequence[Row]], str]] = {
        "decision": decision,
        "large": lambda of_dataset: effects(of_dataset, [one for one in models(of_dataset) if one in LARGE]),
        "small": lambda of_dataset: effects(of_dataset, [one for one in models(of_dataset) if one not in LARGE]),
        "claims": claims,
        "one network": one_network,
        "layer transfer": layer_transfer,
        "published": published,
    }

    def content(found: re.Match[str]) -> str:
        name, dataset = found["name"], found["dataset"]
        if name not in parts:
            raise ValueError(f"a mark must be one of {', '.join(parts)}, got {name!r}")
        return parts[name]([row for row in rows if dataset in (None, row.dataset)]) + "\n"

    return fill_marks(page, MARK, content)[0]


def models(rows: Iterable[Row]) -> list[str]:
    """The networks of these rows, those of LARGE first."""
    return sorted({row.model for row in rows}, key=lambda one: (LARGE.index(one) if one in LARGE else 9, one))


def decision(rows: Sequence[Row]) -> str:
    """The cell with the best score among those that lose at most so many points to the most accurate one."""
    eligible = [row for row in timed_together(rows) if row.eligible]
    top = max(eligible, key=lambda row: row.number("accuracy"))
    found: dict[int, Row] = {}
    for points in ALLOWANCES:
        within = [row for row in eligible if _drop(row, top) <= points / 100 + 1e-9]
        found[points] = max(within, key=lambda row: row.number("score"))
    lines = [
        (
            number_of(points, "point"),
            f"`{row.model}` with `{row.technique}`{_doubt(row, top, points)}",
            _percent(row.number("accuracy")),
            milliseconds(row.number("test_ms")),
            _megabytes(row.number("compressed_bytes")),
            f"{row.number('score'):.1f} dB",
        )
        for points, row in found.items()
    ]
    return markdown([("loses at most", "cell", "accuracy", "test time", "compressed size", "score"), *lines])


def _drop(row: Row, top: Row) -> float:
    return top.number("accuracy") - row.number("accuracy")


def _doubt(row: Row, top: Row, points: float) -> str:
    """That it may lose more than the most accurate cell, where the test images do not exclude that."""
    if row.number("accuracy") == top.number("accuracy"):
        return ""
    high = row.number("drop_high")
    if math.isnan(high) or abs(row.number("drop") - _drop(row, top)) > 1e-9:  # that from another cell
        # The answers to each image are not compared over two files, so by Newcombe's interval for independent samples
        # (1998, Statistics in Medicine 17, 873-890, method 10), which is wider.
        high = _drop(row, top) + math.hypot(_half(top, "accuracy_high"), _half(row, "accuracy_low"))
    return f" (not sure: it may lose {100 * high:.1f} points)" if 100 * high > points else ""


def _half(row: Row, end: str) -> float:
    return row.number(end) - row.number("accuracy")


def effects(rows: Sequence[Row], networks: Sequence[str]) -> str:
    """A row for each technique and a column for each network: the change of accuracy, the ratios of time and size."""
    cells = {(row.technique, row.model): row for row in rows if row.technique in TECHNIQUES}
    lines = [["technique", *(f"`{network}`" for network in networks), "training", "2-D or more"]]
    for technique in TECHNIQUES:
        of_it = [cells.get((technique, network)) for network in networks]
        there = [row for row in of_it if row]
        if there:
            lines.append([f"`{technique}`", *map(_effect, of_it), *_over_networks(there)])
    return markdown(lines)


def one_network(rows: Sequence[Row]) -> str:
    """The techniques of SHOWN, with the verdicts on accuracy, test time and size that are not better."""
    cells = {row.technique: row for row in rows if row.model == SHOWN and row.technique in TECHNIQUES}
    lines = [["technique", "accuracy", "test time", "compressed size", "training"]]
    for technique in (one for one in TECHNIQUES if one in cells):
        row = cells[technique]
        lines.append([f"`{technique}`", *(_figures(row) if technique == BASELINE else _judged(row))])
    return markdown(lines)


def claims(rows: Sequence[Row]) -> str:
    """The article's claims, and which of them hold."""
    return "\n".join(
        textwrap.fill(f"- {sentence}", COLUMNS, subsequent_indent="  ") for sentence in article.claims([rows])
    )


def layer_transfer(rows: Sequence[Row]) -> str:
    """Every cell of layer transfer: what was copied, and its way to the baseline's accuracy on validation images."""
    heading = [
        "network", "donor", "copied weights", "accuracy", "its baseline", "to the baseline's accuracy", "baseline",
    ]  # fmt: skip
    found = sorted((row for row in rows if row.technique == LAYER_TRANSFER), key=lambda row: (row.dataset, row.model))
    return markdown([heading, *map(_transferred, found)])


def published(rows: Sequence[Row]) -> str:
    """Published figures and ours."""
    lines = [
        ("what", "theirs", "source", "ours: median, least to greatest"),
        ("`cluster`, change of accuracy", "-0.4 points", TFMOT, _points_of(rows, "cluster")),
        ("`qat`, change of accuracy", "-0.1 points", TFMOT, _points_of(rows, "qat")),
        ("`cqat`, change of accuracy", "-0.3 points", TFMOT, _points_of(rows, "cqat")),
        ("`quantize_int8`, change of accuracy", "-0.2 points", TFMOT, _points_of(rows, "quantize_int8")),
        ("`cqat`, compressed size to that of `qat`", "x 0.68", TFMOT, _sizes(rows, "cqat", "qat")),
        (
            "`quantize_int8`, time to float's",
            "x 0.31",
            "ResNet8 of MLPerf Tiny, reported to us",
            _range(rows, "quantize_int8", "time_ratio", "x {:.2f}"),
        ),
        *(
            (
                f"VGG16 by `{row.technique}`, {DATASETS[row.dataset]}",
                "49 times smaller, +0.3 points",
                DEEP_COMPRESSION,
                f"{1 / row.number('size_ratio'):.0f} times smaller, {_points(row)} points",
            )
            for row in rows
            if row.model == "vgg16" and row.technique in ("prune_cluster", "pcqat")
        ),
    ]
    return markdown(lines)


def _figures(row: Row) -> list[str]:
    return [
        _percent(row.number("accuracy")),
        milliseconds(row.number("test_ms")),
        _megabytes(row.number("compressed_bytes")),
        seconds(row.number("train_s")),
    ]


def _judged(row: Row) -> list[str]:
    texts = {
        "accuracy": _percent(row.number("accuracy")),
        "test_time": f"x {row.number('time_ratio'):.2f}",
        "size": f"x {row.number('size_ratio'):.2f}",
    }
    judged = [text if (mark := row.marks[name]) == "better" else f"{text}, {mark}" for name, text in texts.items()]
    training = row.number("train_ratio")
    return [*judged, NONE if math.isnan(training) else "the same" if training == 1 else f"x {training:.2f}"]


def _effect(row: Row | None) -> str:
    if row is None:
        return NONE
    if row.technique == BASELINE:
        half = (row.number("accuracy_high") - row.number("accuracy_low")) / 2
        accuracy, *others = _figures(row)
        return ", ".join([f"{accuracy} ± {100 * half:.1f}", *others])
    return f"{_points(row)}, x {row.number('time_ratio'):.2f}, x {row.number('size_ratio'):.2f}"


def _over_networks(there: Sequence[Row]) -> list[str]:
    """The ratio of the training time, and in how many networks two dimensions or more are better."""
    if there[0].technique == BASELINE:
        return [NONE, NONE]
    ratios = [ratio for row in there if not math.isnan(ratio := row.number("train_ratio"))]
    useful = sum((row.improved or 0) >= 2 for row in there)
    return [f"x {statistics.median(ratios):.2f}" if ratios else NONE, f"{useful} of {len(there)}"]


def _transferred(row: Row) -> list[str]:
    epochs, needed = (
        row.number("transfer_epochs_to_baseline_accuracy"),
        row.number("transfer_seconds_to_baseline_accuracy"),
    )
    reached = NONE if math.isnan(epochs) else f"{epochs:.0f} epochs, {seconds(needed)}"
    return [
        f"`{row.model}`, {DATASETS[row.dataset]}",
        f"`{row.source}`",
        f"{row.number('transfer_parameters_share'):.0%}",
        f"{_percent(row.number('accuracy'))} ({_points(row)})",
        _percent(row.number("accuracy") - row.number("accuracy_difference")),
        reached,
        seconds(row.number("transfer_baseline_seconds")),
    ]


def _points(row: Row) -> str:
    """The change of accuracy in points, bold where the test images show that it is not chance."""
    text = f"{100 * row.number('accuracy_difference'):+z.1f}"
    return text if row.marks.get("accuracy") == "tied" else f"**{text}**"


def _points_of(rows: Sequence[Row], technique: str) -> str:
    return _range(rows, technique, "accuracy_difference", "{:+z.1f}", factor=100, unit=" points")


def _sizes(rows: Sequence[Row], technique: str, other: str) -> str:
    """The compressed size of a technique over that of another one on the same network."""
    others = {(row.dataset, row.model): row for row in rows if row.technique == other}
    pairs = [(row, others.get((row.dataset, row.model))) for row in rows if row.technique == technique]
    ratios = [one.number("compressed_bytes") / base.number("compressed_bytes") for one, base in pairs if base]
    return _spread(ratios, "x {:.2f}")


def _range(rows: Sequence[Row], technique: str, name: str, form: str, *, factor: float = 1, unit: str = "") -> str:
    """Least, median and greatest value over all cells of a technique, with their number."""
    return _spread([factor * row.number(name) for row in rows if row.technique == technique], form, unit=unit)


def _spread(values: Sequence[float], form: str, *, unit: str = "") -> str:
    if not values:
        return NONE
    if len(values) == 1:
        return f"{form.format(values[0])}{unit} in 1 cell"
    median, least, most = (form.format(value) for value in (statistics.median(values), min(values), max(values)))
    return f"{median}{unit}, {least} to {most} in {len(values)} cells"


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _megabytes(count: float) -> str:
    return f"{three_digits(count / 1e6)} MB"
