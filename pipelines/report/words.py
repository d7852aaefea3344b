"""The sentences of a report: short names, and why the winner leads."""

from __future__ import annotations

import math

from pipelines.comparison.entries import Entry
from pipelines.comparison.groups import Title
from pipelines.comparison.ranking import Comparison
from pipelines.results.cell_result import DIMENSIONS
from pipelines.results.columns import CRITERION, kilobytes, milliseconds, percent, seconds
from pipelines.results.score import apart_from
from pipelines.system.words import listed

# Scores that differ by less in a criterion count as equal in it.
MIN_DB = 0.05
MAX_LENGTH, MAX_TITLE = 64, 52


def short_names(comparison: Comparison) -> dict[str, str]:
    """Names for figures by label: without the dataset, and with the last part of the settings' names."""
    return {
        entry.label: " ".join(filter(None, (entry.model, entry.optimized_with, entry.short_settings)))
        for entry in comparison.entries
    }


def runtime_doubt(entry: Entry) -> str:
    """In what the times and answers on a device differ from what the other columns show; empty where in nothing."""
    same = entry.agreement
    return "; ".join(
        filter(
            None,
            (
                ""
                if same is None or same == 1
                else f"gives LiteRT's class for {apart_from(100 * same, 100)}% of images",
                "" if entry.is_reliable else "the time is INVALID: the session was disturbed or too short",
            ),
        )
    )


def shorten(name: str, longest: int = MAX_LENGTH) -> str:
    """`name`, cut if it is too long for a figure."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def titled(title: Title, what: str) -> str:
    """A figure's title, with as much of the comparison's as fits."""
    return f"{shorten(str(title), MAX_TITLE - len(what))}: {what}"


def reasons(comparison: Comparison) -> list[str]:
    """Why the winner leads, a sentence each; empty without a winner."""
    winner = comparison.winner
    if winner is None:
        return []
    sentences = []
    rivals = comparison.eligible[1:]
    if rivals:
        sentences.append(_lead(winner, rivals[0], tied=rivals[0].label in comparison.tied))
    sentences.append(
        f"It is right on {percent(winner.accuracy.value)} of the test images{_interval(winner)}, takes "
        f"{milliseconds(winner.test_ms.value)} an image and {kilobytes(winner.compressed_bytes.value)} compressed, and "
        + (
            "its training time is unknown."
            if winner.train_unknown
            else f"took {seconds(winner.train_s.value)} to train."
        )
    )
    if winner.improved is not None:
        sentences.append(
            f"It gains {difference(winner.gain.value)} over its own baseline and is better in {winner.improved} of 3 "
            f"dimensions ({', '.join(f'{name} {winner.marks[name]}' for name in DIMENSIONS)})."
        )
    return sentences


def profile(comparison: Comparison) -> str:
    """The exponents, budgets and goals of the cells' scores, in words."""
    run = comparison.entries[0].runs[0]
    exponents = ", ".join(f"{CRITERION[name]} {exponent:g}" for name, exponent in run.exponents.items())
    limits = [f"{name} {run.params[f'score.{name}']}" for name in run.limits]
    return f"the exponents are {exponents}, and " + (
        f"the budgets are {', '.join(limits)}" if limits else "there is no budget"
    )


# The text of a score, and of a difference of scores.
decibels, difference = "{:.1f} dB".format, "{:+z.1f} dB".format


def _lead(winner: Entry, rival: Entry, *, tied: bool) -> str:
    own, other = winner.terms, rival.terms
    differences = sorted(((CRITERION[name], own[name] - other[name]) for name in own), key=lambda d: -abs(d[1]))
    by = decibels(winner.score.value - rival.score.value)
    parts = [
        f"Its score is level with that of {rival.label}, as a lead of {by} is within the noise"
        if tied
        else f"Its score is {by} above that of {rival.label}"
    ]
    for sign, where in ((1, "ahead"), (-1, "behind")):
        of_sign = [f"{name} ({difference(value)})" for name, value in differences if sign * value >= MIN_DB]
        parts += [f"it is {where} in {listed(of_sign)}"] if of_sign else []
    return "; ".join(parts) + "."


def _interval(entry: Entry) -> str:
    low, high = entry.accuracy.low, entry.accuracy.high
    return "" if math.isnan(low) else f" (95% interval {percent(low)} to {percent(high)})"
