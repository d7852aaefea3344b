"""The sentences of a report: short names, and why the winner leads."""

from __future__ import annotations

import math
import re

from pipelines.comparison.entries import Entry
from pipelines.comparison.ranking import Comparison
from pipelines.results.columns import CRITERION
from pipelines.results.records import DIMENSIONS
from pipelines.results.score import BUDGETS, CRITERIA, GOALS
from pipelines.results.words import listed

# Scores that differ by less in a criterion count as equal in it.
MIN_DB = 0.05
MAX_LENGTH = 64
_SETTING = re.compile(r"(?:(?<=\s)|^)([\w.]+)\.(\w+)=")


def short_names(comparison: Comparison) -> dict[str, str]:
    """Names for figures by label: without the dataset, and with the last part of the settings' names."""
    return {
        entry.label: " ".join(filter(None, (entry.model, entry.technique, _shortened(entry.settings))))
        for entry in comparison.entries
    }


def shorten(name: str, longest: int = MAX_LENGTH) -> str:
    """`name`, cut if it is too long for a figure."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def reasons(comparison: Comparison) -> list[str]:
    """Why the winner leads, a sentence each; empty without a winner."""
    winner = comparison.winner
    if winner is None:
        return []
    sentences = []
    rivals = [entry for entry in comparison.entries if entry.eligible and not math.isnan(entry.score.value)][1:]
    if rivals:
        sentences.append(_lead(winner, rivals[0], tied=rivals[0].label in comparison.tied))
    sentences.append(
        f"It is right on {winner.accuracy.value:.2%} of the test images{_interval(winner)}, takes "
        f"{winner.test_ms.value:.3g} ms an image and {size(winner.compressed_bytes.value)} compressed, and "
        + ("its training time is unknown." if winner.train_unknown else f"took {winner.train_s.value:.3g} s to train.")
    )
    if winner.improved is not None:
        sentences.append(
            f"It gains {winner.gain.value:+.2f} dB over its own baseline and is better in {winner.improved} of 3 "
            f"dimensions ({', '.join(f'{name} {winner.marks[name]}' for name in DIMENSIONS)})."
        )
    return sentences


def profile(comparison: Comparison) -> str:
    """The exponents, budgets and goals of the cells' scores, in words."""
    params = comparison.entries[0].runs[0].params
    exponents = ", ".join(f"{CRITERION[name]} {float(params[f'score.{name}']):g}" for name in CRITERIA)
    limits = [
        f"{name} {params[f'score.{name}']}"
        for name in (*BUDGETS, *GOALS)
        if params.get(f"score.{name}", "None") != "None"
    ]
    return f"exponents {exponents}; " + (f"budgets {', '.join(limits)}" if limits else "no budget")


def size(count: float) -> str:
    """Bytes as kB or MB, of 1,000 and 1,000,000 bytes."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def duration(seconds: float) -> str:
    """Seconds as s, min or h."""
    unit, factor = ("s", 1) if seconds < 120 else ("min", 60) if seconds < 7200 else ("h", 3600)
    return f"{seconds / factor:.3g} {unit}"


def _shortened(settings: str) -> str:
    """`technique.epochs=3` as `epochs=3`, unless another setting has the same last part."""
    lasts = [found[2] for found in _SETTING.finditer(settings)]
    return _SETTING.sub(lambda found: f"{found[2]}=" if lasts.count(found[2]) == 1 else found[0], settings)


def _lead(winner: Entry, rival: Entry, *, tied: bool) -> str:
    own, other = winner.terms, rival.terms
    differences = sorted(((CRITERION[name], own[name] - other[name]) for name in own), key=lambda d: -abs(d[1]))
    by = f"{winner.score.value - rival.score.value:.2f} dB"
    sentences = [
        f"Its score is level with that of {rival.label}: {by} more are within the noise"
        if tied
        else f"Its score is {by} above that of {rival.label}"
    ]
    for sign, where in ((1, "ahead"), (-1, "behind")):
        of_sign = [f"{name} ({value:+.2f} dB)" for name, value in differences if sign * value >= MIN_DB]
        sentences += [f"{where} in {listed(of_sign)}"] if of_sign else []
    return ", ".join(sentences) + "."


def _interval(entry: Entry) -> str:
    low, high = entry.accuracy.low, entry.accuracy.high
    return "" if math.isnan(low) else f" (95% interval {low:.1%} to {high:.1%})"
