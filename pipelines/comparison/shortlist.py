"""The shortlist of a comparison: for each number of points of accuracy that one may give up, the fittest cell."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipelines.comparison.entries import Entry
from pipelines.comparison.ranking import Comparison

ALLOWANCES = (0.0, 0.01, 0.02, 0.05, 0.1, None)


@dataclass(frozen=True, kw_only=True)
class Shortlisted:
    """The fittest cell within an allowance.

    allowances: fractions of accuracy below the most accurate cell, None for any; more than one where they have the
    same fittest cell. drop: the fraction of accuracy that it gives up. times_smaller: compressed bytes of the most
    accurate cell over its own. times_faster: the same of test time, NaN if one is unknown. doubt: why the row is
    uncertain, or empty.
    """

    allowances: tuple[float | None, ...]
    entry: Entry
    drop: float
    times_smaller: float
    times_faster: float
    doubt: str = ""


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """The rows of one dataset by growing allowance. warning: a sentence if the test set is too small, or empty."""

    dataset: str
    most_accurate: Entry
    rows: tuple[Shortlisted, ...]
    smallest: Entry
    fastest: Entry
    warning: str = ""


def shortlist(comparison: Comparison) -> Shortlist | None:
    """The shortlist; None where no cell is eligible and has a score."""
    scored = [entry for entry in comparison.entries if entry.eligible and not math.isnan(entry.score.value)]
    if not scored:
        return None
    best = max(scored, key=lambda entry: entry.accuracy.value)
    chosen: dict[str, tuple[Entry, list[float | None]]] = {}
    for allowance in ALLOWANCES:
        least = best.accuracy.value - (1 if allowance is None else allowance + 1e-9)
        # Entries are sorted by falling score.
        entry = next(entry for entry in scored if entry.accuracy.value >= least)
        chosen.setdefault(entry.label, (entry, []))[1].append(allowance)
    return Shortlist(
        dataset=comparison.dataset,
        most_accurate=best,
        rows=tuple(
            Shortlisted(
                allowances=tuple(allowances),
                entry=entry,
                drop=best.accuracy.value - entry.accuracy.value,
                times_smaller=best.compressed_bytes.value / entry.compressed_bytes.value,
                times_faster=best.test_ms.value / entry.test_ms.value,
            )
            for entry, allowances in chosen.values()
        ),
        smallest=min(scored, key=lambda entry: entry.compressed_bytes.value),
        fastest=min(scored, key=lambda entry: entry.test_ms.value),
    )
