"""The first screen of a report on one dataset: the question, the shortlist as text, and why, in a sentence."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping

from pipelines.comparison.notes import notes
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.shortlist import MAX_DROP, Shortlist, Shortlisted, points
from pipelines.comparison.shortlist_text import times
from pipelines.report.words import decibels, runtime_doubt, short_names
from pipelines.results.columns import UNKNOWN, kilobytes, milliseconds, percent, seconds
from pipelines.results.score import ROUNDING
from pipelines.system.words import listed, number_of


def first_screen(comparison: Comparison, found: Shortlist | None, options: str = "") -> dict[str, object]:
    """The values of the template. A cell's `at` is its place among the comparison's entries. options: as of `why`."""
    names = short_names(comparison)
    title = comparison.title
    places = {entry.label: at for at, entry in enumerate(comparison.entries)}
    answer = found.recommended.entry if found else None
    return {
        "question": question(len(comparison.entries), title.dataset),
        "conditions": "; ".join(filter(None, (title.conditions, _device(comparison)))),
        "why": why(comparison, found, options),
        "rows": [
            _row(row) | {"at": places[row.entry.label], "fittest": row.entry is answer}
            for row in (found.rows if found else ())
        ],
        "extremes": _extremes(found, names) if found else [],
        "cautions": found.warnings if found else (),
    }


def _device(comparison: Comparison) -> str:
    """The device whose times count; empty for the times of the cells' own runs."""
    devices = [one for entry in comparison.entries for one in entry.devices]
    return f"times on {devices[0].target}, {number_of(devices[0].threads, 'thread')}" if devices else ""


def question(cells: int, dataset: str) -> str:
    """The question that the report answers."""
    return f"Is the one cell fit to be operated on {dataset}?" if cells == 1 else (
        f"Which of these {cells:,} cells is fit to be operated on {dataset}?"
    )  # fmt: skip


def why(comparison: Comparison, found: Shortlist | None, options: str = "") -> str:
    """The answer and its reason. options: of a command that shall find the same cells, with a blank before each."""
    if found is None:
        return notes(comparison)[0]
    row, best, names = found.recommended, found.most_accurate, short_names(comparison)
    runtime = f" on {row.entry.runtime}" if row.entry.runtime else ""
    name, right = names[row.entry.label] + runtime, percent(row.entry.accuracy.value)
    if len(comparison.entries) == 1:
        return f"{name} is the only cell here: it is right on {right} of the test images."
    if row.entry is best:
        return f"{name} is the most accurate cell ({right}), and the fittest within {points(MAX_DROP)} of it."
    loss = f"{points(row.drop)} less accurate than" if row.drop >= ROUNDING else "as accurate as"
    ratios = times(row.times_smaller, "smaller", "larger"), times(row.times_faster, "faster", "slower")
    gains = [text for text in ratios if text] or ["neither smaller nor faster"]
    own, other = row.entry.train_s.value, best.train_s.value
    machines = {run.training_machines for entry in (row.entry, best) for run in entry.runs}
    # A model may come trained in no time.
    training = times(other / own if own > 0 and other > 0 and len(machines) == 1 else math.nan, "less", "more")
    sentences = [f"{name} is the fittest cell {_among(row)}: it is {loss} {names[best.label]}, and {listed(gains)}."]
    if training:
        sentences.append(f"It took {training} training.")
    if not row.is_near:
        enough = math.ceil(1000 * (row.drop - ROUNDING)) / 1000
        dataset = shlex.join(["--dataset", row.entry.runs[0].dataset])
        sentences.append(f"`opscore promote {dataset} --max-drop {enough:g}{options}` allows this loss.")
    return " ".join(sentences)


def _among(row: Shortlisted) -> str:
    """Which cells the recommended one is the fittest of. row: without a near one, the first of the list."""
    nearest, near = row.allowances[0], points(MAX_DROP)
    if row.is_near:
        return f"within {near} of the most accurate"
    if nearest is None:
        return "that keeps its budgets"
    return f"within {points(nearest)} of the most accurate, as none within {near} keeps its budgets"


def _row(row: Shortlisted) -> dict[str, object]:
    entry, accuracy = row.entry, row.entry.accuracy
    known = not math.isnan(accuracy.low)
    return {
        "allowance": row.given_up,
        "name": f"{entry.model} {entry.optimized_with}",
        "runtime": "; ".join(filter(None, (entry.runtime and f"on {entry.runtime}", runtime_doubt(entry)))),
        "setting": entry.short_settings,
        "doubt": _doubt(row),
        "accuracy": percent(accuracy.value),
        "interval": f"{percent(accuracy.low)} to {percent(accuracy.high)}" if known else "",
        "test": milliseconds(entry.test_ms.value),
        "size": kilobytes(entry.compressed_bytes.value),
        "training": UNKNOWN if entry.train_unknown else seconds(entry.train_s.value),
        "score": decibels(entry.score.value),
        "smaller": times(row.times_smaller, "smaller", "larger"),
        "faster": times(row.times_faster, "faster", "slower"),
    }


def _doubt(row: Shortlisted) -> str:
    if not row.doubt:
        return ""
    below = "" if row.sure_from is None else f"below {points(row.sure_from)}, "
    return f"{below}this is {row.doubt}."


def _extremes(found: Shortlist, names: Mapping[str, str]) -> list[str]:
    """A sentence each for the smallest and the fastest cell, one for both where they are the same."""
    titles: dict[str, list[str]] = {}
    for title, entry in (("smallest", found.smallest), ("fastest", found.fastest)):
        titles.setdefault(entry.label, []).append(title)
    entries = {entry.label: entry for entry in (found.smallest, found.fastest)}
    return [
        f"The {listed(titles[label])} cell is {names[label]}: {kilobytes(entry.compressed_bytes.value)}, "
        f"{milliseconds(entry.test_ms.value)} and {percent(entry.accuracy.value)} of the test images right."
        for label, entry in entries.items()
    ]
