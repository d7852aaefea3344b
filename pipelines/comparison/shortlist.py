"""The shortlist: the fittest cell for each loss of accuracy that one can allow.

People know how much accuracy they can give up; they do not know exponents. So the score ranks cells only within an
allowance below the most accurate cell of a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from pipelines.comparison.entries import Entry
from pipelines.comparison.labels import settings_of
from pipelines.results.metrics import TIME_RATIO
from pipelines.results.recorded_cell import BASELINE, RecordedCell, RightOf
from pipelines.results.score import ROUNDING
from pipelines.results.statistics import Z, combined, mean_interval, paired_difference, t_quantile
from pipelines.results.verdict import TOLERANCE
from pipelines.system.errors import StoreError

if TYPE_CHECKING:
    from pipelines.comparison.ranking import Comparison

# Fractions of accuracy below the most accurate cell; None: any.
ALLOWANCES = (0.0, 0.01, 0.02, 0.05, 0.1, None)
# Accuracy that may be lost by default; other tools allow about a point.
MAX_DROP = 0.02
# A test set must be able to show a difference of so much.
RESOLVABLE = 0.05
# A test set that would have to be so many times larger is nobody's.
MAX_TIMES_MORE = 1000
MIN_TIMES_MORE = 1.2


@dataclass(frozen=True, kw_only=True)
class Shortlisted:
    """The fittest cell within each of some allowances, which follow each other.

    drop: fraction of accuracy below the most accurate cell's. times_smaller, times_faster: compressed bytes and test
    time of the most accurate cell over its own. doubt: empty, or that the drop may be more than the least allowance.
    sure_from: the first allowance that it is certainly within; None where all are sure, or none but `any`.
    """

    allowances: tuple[float | None, ...]
    entry: Entry
    drop: float
    times_smaller: float
    times_faster: float
    doubt: str
    sure_from: float | None = None

    @property
    def mark(self) -> str:
        """What stands behind its name, with a blank before; empty where nothing is in doubt."""
        if not self.doubt:
            return ""
        return " (not sure)" if self.sure_from is None else f" (sure from {100 * self.sure_from:g})"

    @property
    def is_near(self) -> bool:
        """Whether it loses at most MAX_DROP."""
        return within(MAX_DROP, self.drop)

    @property
    def given_up(self) -> str:
        """The allowances in words, such as `2 points`, `0 to 2 points`, `5 points or more`."""
        first, last = self.allowances[0], self.allowances[-1]
        if first is None or (first == 0 and last is None):
            return "any"
        if last is None:
            return f"{points(first)} or more"
        return f"{100 * first:g} to {points(last)}" if first != last else points(first)


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """The fittest cells of a comparison by allowance.

    rows: allowances within which there is no cell are left out. smallest, fastest: among all that may be operated.
    warnings: what to know before reading it, a sentence each.
    """

    most_accurate: Entry
    rows: tuple[Shortlisted, ...]
    smallest: Entry
    fastest: Entry
    warnings: tuple[str, ...]

    @property
    def recommended(self) -> Shortlisted:
        """The fittest cell within MAX_DROP; without one, within the least allowance that has a cell."""
        near = [row for row in self.rows if row.is_near]
        return near[-1] if near else self.rows[0]

    def drop(self, entry: Entry) -> float:
        """The fraction of accuracy below the most accurate cell's."""
        return _drop(entry, self.most_accurate)


def shortlist(comparison: Comparison, right_of: RightOf | None = None) -> Shortlist | None:
    """The shortlist of a comparison; None where no cell may be operated.

    right_of: reads from the store which images are right, for the few cells of the list; without it, and where files
    are lost, the intervals of differences are wider.
    """
    learnt = [entry for entry in comparison.entries if not entry.uninformed]
    fit = [entry for entry in learnt if entry.feasible]
    if not fit:
        return None
    top = most_accurate(learnt)
    return Shortlist(
        most_accurate=top,
        rows=tuple(_rows(fit, top, right_of)),
        smallest=_least(fit, lambda entry: entry.compressed_bytes.value),
        fastest=_least(fit, lambda entry: entry.test_ms.value),
        warnings=tuple(_warnings(fit, top, sum(not entry.feasible for entry in learnt))),
    )


def shortlisted(
    comparisons: Sequence[Comparison], right_of: RightOf | None = None
) -> list[tuple[Comparison, Shortlist | None]]:
    """Each comparison with its shortlist. The arguments: as of `shortlist`."""
    return [(comparison, shortlist(comparison, right_of)) for comparison in comparisons]


def _least(entries: Sequence[Entry], value_of: Callable[[Entry], float]) -> Entry:
    """The entry with the least value; of those that tie with it, the most accurate."""
    least = min(map(value_of, entries))
    return most_accurate([entry for entry in entries if value_of(entry) <= least * (1 + TOLERANCE)])


def most_accurate(entries: Sequence[Entry]) -> Entry:
    """The one that losses are measured from; of equally accurate ones the fitter. entries: at least one."""
    return max(entries, key=lambda entry: (entry.accuracy.value, entry.score.value))


def within(allowance: float | None, drop: float) -> bool:
    """Whether a measured drop is within an allowance, up to rounding."""
    return allowance is None or drop <= allowance + ROUNDING


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Accuracy minus another's, as fractions.

    low, high: the 95% interval. discordant: share of images that exactly one of the two gets right. seeds_low: the
    lower bound by the spread of the seeds alone; None for a single pair.
    """

    low: float
    high: float
    discordant: float
    seeds_low: float | None


def difference(own: Sequence[RecordedCell], other: Sequence[RecordedCell], right_of: RightOf | None) -> Difference:
    """How much more accurate an entry is than another one.

    own, other: the runs of two entries on the same test images. Runs of one seed are paired, else the newest ones. Over
    several seeds the spread of the pairs adds to that of the images; where the two have not the same seeds, the spread
    of each, taken to be alike, around the difference of their means.
    """
    pairs = _pairs(own, other)
    images = pairs[0][0].test_images
    found = [_of_pair(one, two, right_of) for one, two in pairs]
    differences, discordant = (np.array(values, float) for values in zip(*found, strict=True))
    of_pairs = float(differences.mean())
    low, high = paired_difference(of_pairs, float(discordant.mean()), images)
    of_seeds = None
    if not len(own) == len(other) == len(pairs):
        value, of_seeds = _of_means([run.accuracy for run in own], [run.accuracy for run in other])
        moved = value - of_pairs / images
        low, high = combined(value, (low + moved, high + moved), of_seeds)
    elif len(pairs) > 1:
        of_seeds = mean_interval((differences / images).tolist())
        low, high = combined(of_pairs / images, (low, high), of_seeds)
    return Difference(
        low=low, high=high, discordant=float(discordant.mean()) / images, seeds_low=of_seeds[0] if of_seeds else None
    )


def _of_means(own: Sequence[float], other: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The difference of two means, of three values or more together, and its interval by Student's pooled t."""
    value = float(np.mean(own) - np.mean(other))
    degrees = len(own) + len(other) - 2
    squares = sum(float(np.sum((np.array(values) - np.mean(values)) ** 2)) for values in (own, other))
    half = t_quantile(degrees) * math.sqrt(squares / degrees * (1 / len(own) + 1 / len(other)))
    return value, (value - half, value + half)


def images_to_tell(drop: float, allowance: float, discordant: float, of_seeds: float = 0.0) -> float:
    """The number of test images on which a drop's 95% bound would be within an allowance; infinite where none is.

    discordant: share of images that exactly one of the two gets right. of_seeds: half width by the spread of the seeds,
    which more images do not change. From the half width of the paired difference, z sqrt((q - d^2) / n) = room
    (`statistics.paired_difference`), with d and q as adjusted there, and room^2 = (allowance - d)^2 - of_seeds^2.
    """
    room = max(0.0, allowance - drop) ** 2 - of_seeds**2
    return Z**2 * (discordant - drop**2) / room if room > ROUNDING**2 else math.inf


def images_for_resolvable(accuracy: float, images: int) -> float:
    """The number of test images that shows RESOLVABLE between two models of about this accuracy, erring independently.

    z sqrt(2 A (1 - A) / n) = RESOLVABLE, with A as Agresti and Coull have it, two right and two wrong answers added, so
    that a small test set without an error does not count as certain (doi:10.1080/00031305.1998.10480550).
    """
    adjusted = (accuracy * images + 2) / (images + 4)
    return Z**2 * 2 * adjusted * (1 - adjusted) / RESOLVABLE**2


def _rows(fit: Sequence[Entry], top: Entry, right_of: RightOf | None) -> Iterator[Shortlisted]:
    """fit: by falling score, so that the allowances of one cell follow each other."""
    drops = [_drop(entry, top) for entry in fit]
    fittest = {
        allowance: place
        for allowance in ALLOWANCES
        if (place := next((n for n, drop in enumerate(drops) if within(allowance, drop)), None)) is not None
    }
    for place, allowances in groupby(fittest, fittest.__getitem__):
        yield _row(fit[place], top, tuple(allowances), right_of)


def _row(entry: Entry, top: Entry, allowances: tuple[float | None, ...], right_of: RightOf | None) -> Shortlisted:
    limits = [one for one in allowances if one is not None]
    doubts = [] if entry is top else doubts_of(entry.runs, top.runs, limits, right_of)
    doubt, *others = doubts or [""]
    sure = (one for one, still in zip(limits[1:], others, strict=True) if not still) if doubt else iter(())
    return Shortlisted(
        allowances=allowances,
        entry=entry,
        drop=_drop(entry, top),
        times_smaller=top.compressed_bytes.value / entry.compressed_bytes.value,
        times_faster=_times_faster(entry, top),
        doubt=doubt,
        sure_from=next(sure, None),
    )


def _times_faster(entry: Entry, top: Entry) -> float:
    """From the ratios to their baseline, timed side by side, where the two have the same; else from their own times."""
    own, other = _baseline_ratio(entry), _baseline_ratio(top)
    if own and other and _baseline_of(entry) == _baseline_of(top):
        return other / own
    return top.test_ms.value / entry.test_ms.value


def _baseline_ratio(entry: Entry) -> float | None:
    """Test time over the baseline's, as the mean over seeds."""
    if entry.technique == BASELINE:
        return 1.0
    ratios = [run.metrics[TIME_RATIO] for run in entry.runs if TIME_RATIO in run.metrics]
    return float(np.mean(ratios)) if len(ratios) == len(entry.runs) else None


def _baseline_of(entry: Entry) -> dict[str, str]:
    """What tells two baselines apart, seeds aside."""
    settings = settings_of(entry.runs[0]) | {"model": entry.model, "source": ""}
    return {name: value for name, value in settings.items() if not name.startswith("technique.")}


def doubts_of(
    own: Sequence[RecordedCell], top: Sequence[RecordedCell], allowances: Sequence[float], right_of: RightOf | None
) -> list[str]:
    """For each allowance: that more accuracy may be lost, and how many test images would decide it; else empty."""
    images = own[0].test_images
    if not images:
        return ["not sure, as the number of test images is not recorded"] * len(allowances)
    if not allowances:
        return []
    found = difference(own, top, right_of)
    return [_doubt(found, images, allowance) for allowance in allowances]


def _doubt(found: Difference, images: int, allowance: float) -> str:
    if -found.low <= allowance + ROUNDING:
        return ""
    bound = -100 * found.low
    # Rounded up where it would else read as allowed.
    shown = round(bound, 1) if round(bound, 1) > 100 * allowance + ROUNDING else math.ceil(10 * bound) / 10
    loses = f"not sure on {images:,} images, where it may lose {shown:.1f} points"
    if found.seeds_low is not None and -found.seeds_low > allowance + ROUNDING:
        return f"{loses}; its seeds differ so much that more of them are needed to decide it"
    adjusted, drop = (found.discordant * images + 2) / (images + 2), -(found.low + found.high) / 2
    of_seeds = 0.0 if found.seeds_low is None else -found.seeds_low - drop
    enough = images_to_tell(drop, allowance, adjusted, of_seeds)
    # Next to the number of images, the approximation says nothing.
    is_known = MIN_TIMES_MORE * images < enough < MAX_TIMES_MORE * images
    decisive = f"; about {_two_digits(enough):,} would decide it" if is_known else ""
    return f"{loses}{decisive}"


def _warnings(fit: Sequence[Entry], top: Entry, infeasible: int) -> Iterator[str]:
    images = top.runs[0].test_images
    enough = images_for_resolvable(top.accuracy.value, images) if images else 0
    if images < enough:
        yield (
            f"{images:,} test images cannot tell {points(RESOLVABLE)} of accuracy apart, which takes about "
            f"{_two_digits(enough):,}: the most accurate cell may be so by chance."
        )
    if infeasible:
        cells = "1 cell misses" if infeasible == 1 else f"{infeasible} cells miss"
        yield f"{cells} a budget or goal of the score profile and cannot be chosen."
    if not any(within(ALLOWANCES[-2], _drop(entry, top)) for entry in fit):
        yield f"No cell within its budgets is within {points(0.1)} of the most accurate, {top.label}."


def _drop(entry: Entry, top: Entry) -> float:
    return top.accuracy.value - entry.accuracy.value


def _pairs(own: Sequence[RecordedCell], other: Sequence[RecordedCell]) -> list[tuple[RecordedCell, RecordedCell]]:
    by_seed = {cell.seed: cell for cell in other}
    common = [(cell, by_seed[cell.seed]) for cell in own if cell.seed in by_seed]
    if common:
        return common
    newest = attrgetter("started")
    return [(max(own, key=newest), max(other, key=newest))]


def _of_pair(own: RecordedCell, other: RecordedCell, right_of: RightOf | None) -> tuple[int, int]:
    """More right answers than another's, and the number of images that exactly one of the two gets right."""
    images = own.test_images
    if right_of is not None:
        with suppress(StoreError):
            one, two = right_of(own), right_of(other)
            return int(one.sum()) - int(two.sum()), int((one != two).sum())
    right = [round(cell.accuracy * images) for cell in (own, other)]
    # As if no image was wrong in both.
    return right[0] - right[1], min(images, 2 * images - sum(right))


def points(fraction: float) -> str:
    """A fraction of accuracy as `1 point`, `2.5 points`, with three digits."""
    count = f"{100 * fraction:.3g}"
    return f"{count} point{'' if count == '1' else 's'}"


def _two_digits(count: float) -> int:
    """Rounded up to two significant digits."""
    unit: int = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return math.ceil(count / unit) * unit
