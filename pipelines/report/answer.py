"""The first screen of a report on one dataset: the question, the shortlist as text, and why, in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pipelines.comparison.entries import Entry
from pipelines.comparison.notes import notes
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.shortlist import Shortlist, Shortlisted
from pipelines.report.words import cautions, duration, short_names, size

# Ratios this close to 1 are within what two measurements of one model differ by.
SAME = 0.02
UNKNOWN = "–"  # noqa: RUF001 (a dash, as tables have it)


def first_screen(comparison: Comparison, found: Shortlist | None) -> dict[str, object]:
    """The values of the template. A cell's `at` is its place among the comparison's entries."""
    names = short_names(comparison)
    places = {entry.label: at for at, entry in enumerate(comparison.entries)}
    winner = comparison.winner
    extremes = [("Smallest", found.smallest), ("Fastest", found.fastest)] if found else []
    return {
        "question": question(len(comparison.entries), comparison.dataset),
        "why": why(comparison, found),
        "rows": [
            _row(row, names) | {"at": places[row.entry.label], "fittest": row.entry is winner}
            for row in (found.rows if found else ())
        ],
        "extremes": [
            f"{title}: {names[entry.label]} ({_size_and_time(entry)}, {entry.accuracy.value:.1%} right)."
            for title, entry in extremes
        ],
        "cautions": [*([found.warning] if found and found.warning else []), *cautions(comparison)],
    }


def question(cells: int, dataset: str) -> str:
    """The question that the report answers."""
    return f"Is the one cell fit to be operated on {dataset}?" if cells == 1 else (
        f"Which of these {cells:,} cells is fit to be operated on {dataset}?"
    )  # fmt: skip


def why(comparison: Comparison, found: Shortlist | None) -> str:
    """The answer and its reason, in one sentence."""
    winner = comparison.winner
    if winner is None or found is None:
        return notes(comparison)[0]
    names, best = short_names(comparison), found.most_accurate
    name = names[winner.label]
    if len(comparison.entries) == 1:
        return f"{name} is the only cell here: it is right on {winner.accuracy.value:.1%} of the test images."
    if winner is best:
        return f"{name} scores highest and is the most accurate cell too, so it costs no accuracy."
    row = next((row for row in found.rows if row.entry is winner), found.rows[-1])
    loss = f"{points(row.drop)} less accurate than" if points(row.drop) != points(0) else "as accurate as"
    ratios = _times(row.times_smaller, "smaller", "larger"), _times(row.times_faster, "faster", "slower")
    gains = [f"{text.replace('x', ' times')} {word}" for text, word in ratios if word] or ["neither smaller nor faster"]
    doubt = f" ({row.doubt})" if row.doubt else ""
    return (
        f"{name} scores highest: it is {loss} {names[best.label]}, the most accurate cell, and "
        f"{' and '.join(gains)}{doubt}."
    )


def allowance(allowances: Sequence[float | None]) -> str:
    """The points of accuracy that may be given up: `0, 1 or 2 points`, `10 points or more`, `any`."""
    known = [f"{100 * one:g}" for one in allowances if one is not None]
    if not known or (len(known) < len(allowances) and known[0] == "0"):
        return "any"
    counted = f"{', '.join(known[:-1])} or {known[-1]}" if len(known) > 1 else known[0]
    if len(known) < len(allowances):
        return f"{known[0]} point{'' if known[0] == '1' else 's'} or more"
    return f"{counted} point{'' if known == ['1'] else 's'}"


def points(fraction: float) -> str:
    """A fraction of accuracy in percentage points."""
    count = f"{100 * fraction:.1f}" if fraction >= 0.0005 or not fraction else f"{100 * fraction:.2f}"
    return f"{count} point{'' if count == '1.0' else 's'}"


def _row(row: Shortlisted, names: Mapping[str, str]) -> dict[str, object]:
    entry, accuracy = row.entry, row.entry.accuracy
    known = not math.isnan(accuracy.low)
    return {
        "allowance": allowance(row.allowances),
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


def _size_and_time(entry: Entry) -> str:
    return ", ".join([size(entry.compressed_bytes.value), _known(entry.test_ms.value, f"{entry.test_ms.value:.3g} ms")])


def _known(value: float, text: str) -> str:
    return UNKNOWN if math.isnan(value) else text
