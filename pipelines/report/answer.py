"""The first screen of a report on one dataset: the question, the shortlist as text, and why, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pipelines.comparison.entries import Entry
from pipelines.comparison.notes import notes
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.shortlist import MAX_DROP, Shortlist, Shortlisted
from pipelines.report.words import duration, short_names, size
from pipelines.results.words import listed

# Ratios this close to 1 are within what two measurements of one model differ by.
SAME = 0.02
UNKNOWN = "–"  # noqa: RUF001 (a dash, as tables have it)


def first_screen(comparison: Comparison, found: Shortlist | None) -> dict[str, object]:
    """The values of the template. A cell's `at` is its place among the comparison's entries."""
    names = short_names(comparison)
    places = {entry.label: at for at, entry in enumerate(comparison.entries)}
    answer = found.recommended.entry if found else None
    extremes = [("Smallest", found.smallest), ("Fastest", found.fastest)] if found else []
    return {
        "question": question(len(comparison.entries), comparison.dataset),
        "why": why(comparison, found),
        "rows": [
            _row(row, names) | {"at": places[row.entry.label], "fittest": row.entry is answer}
            for row in (found.rows if found else ())
        ],
        "extremes": [
            f"{title}: {names[entry.label]} ({_size_and_time(entry)}, {entry.accuracy.value:.1%} right)."
            for title, entry in extremes
        ],
        "cautions": found.warnings if found else (),
    }


def question(cells: int, dataset: str) -> str:
    """The question that the report answers."""
    return f"Is the one cell fit to be operated on {dataset}?" if cells == 1 else (
        f"Which of these {cells:,} cells is fit to be operated on {dataset}?"
    )  # fmt: skip


def why(comparison: Comparison, found: Shortlist | None) -> str:
    """The answer and its reason, in one sentence."""
    if found is None:
        return notes(comparison)[0]
    row, best, names = found.recommended, found.most_accurate, short_names(comparison)
    name, right = names[row.entry.label], f"{row.entry.accuracy.value:.1%}"
    if len(comparison.entries) == 1:
        return f"{name} is the only cell here: it is right on {right} of the test images."
    if row.entry is best:
        return f"{name}: the most accurate cell ({right}), and the fittest within {points(MAX_DROP)} of it."
    reason = f"the fittest cell within {points(MAX_DROP)}" if row.is_near else "the nearest cell within its budgets"
    loss = f"{points(row.drop)} less accurate than" if points(row.drop) != points(0) else "as accurate as"
    ratios = _times(row.times_smaller, "smaller", "larger"), _times(row.times_faster, "faster", "slower")
    gains = [f"{text.replace('x', ' times')} {word}" for text, word in ratios if word] or ["neither smaller nor faster"]
    gains += [f"{text.replace('x', ' times')} {word} training" for text, word in [_training(row, best)] if word]
    return f"{name}: {reason}, {loss} {names[best.label]}, the most accurate, and {listed(gains)}."


def points(fraction: float) -> str:
    """A fraction of accuracy in percentage points."""
    count = f"{100 * fraction:.1f}" if fraction >= 0.0005 or not fraction else f"{100 * fraction:.2f}"
    count = count.removesuffix(".0")
    return f"{count} point{'' if count == '1' else 's'}"


def _row(row: Shortlisted, names: Mapping[str, str]) -> dict[str, object]:
    entry, accuracy = row.entry, row.entry.accuracy
    known = not math.isnan(accuracy.low)
    return {
        "allowance": row.given_up,
        "name": f"{entry.model} {entry.technique}",
        "setting": names[entry.label].removeprefix(f"{entry.model} {entry.technique}").strip(),
        "doubt": row.doubt,
        "accuracy": f"{accuracy.value:.1%}",
        "interval": f"{100 * accuracy.low:.1f} to {accuracy.high:.1%}" if known else "",
        "test": _known(entry.test_ms.value, f"{entry.test_ms.value:.3g} ms"),
        "size": size(entry.compressed_bytes.value),
        "training": "unknown" if entry.train_unknown else _known(entry.train_s.value, duration(entry.train_s.value)),
        "score": _known(entry.score.value, f"{entry.score.value:.1f} dB"),
        "smaller": _times(row.times_smaller, "", "larger"),
        "faster": _times(row.times_faster, "", "slower"),
    }


def _times(ratio: float, more: str, less: str) -> tuple[str, str]:
    """A ratio as a factor of at least 1 and its word; a dash or `same`, without a word, where it has none."""
    if math.isnan(ratio) or abs(ratio - 1) < SAME:
        return UNKNOWN if math.isnan(ratio) else "same", ""
    factor = max(ratio, 1 / ratio)
    digits = 2 if factor < 1.05 else 1 if factor < 100 else 0
    return f"{factor:,.{digits}f}x", more if ratio > 1 else less


def _training(row: Shortlisted, best: Entry) -> tuple[str, str]:
    """How much less training led to it than to the most accurate cell, as a factor and its word."""
    own, other = row.entry.train_s.value, best.train_s.value
    return _times(other / own if own > 0 else math.nan, "less", "more")


def _size_and_time(entry: Entry) -> str:
    return ", ".join([size(entry.compressed_bytes.value), _known(entry.test_ms.value, f"{entry.test_ms.value:.3g} ms")])


def _known(value: float, text: str) -> str:
    return UNKNOWN if math.isnan(value) else text
