"""The entries of a comparison ranked by score: ties, the Pareto front and the effect of the score's weights.

Everything here is arithmetic on recorded cells; nothing is downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.comparison import training_time
from pipelines.comparison.entries import Entry, entries_of
from pipelines.comparison.groups import Title, groups_of
from pipelines.results.metrics import CHANCE, RATIO_HIGH, RATIO_LOW, SCORE, term_of
from pipelines.results.score import CRITERIA, TRAIN_FLOOR_S, decibels, kappa
from pipelines.results.statistics import SIGNIFICANCE, Z, mean_error, t_quantile

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RecordedCell

Floats = npt.NDArray[np.float64]

# Random weights, and random scores for the ties.
DRAWS, SEED = 10_000, 0
# Standard deviation of a log latency whose own interval is not known: two measurements of one exported model differed
# by so much on a quiet machine.
LATENCY_SPREAD = 0.02
# Probability that an accuracy, a latency, a training time or the leader's score is beyond the bound by which an entry
# counts as untied without a draw. Together they are half of what a tie takes, which is ten standard errors of the draws
# away. The training time has two parts.
TAIL_PROBABILITY = SIGNIFICANCE / 20


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Entries that compare with each other, by falling score.

    title: its dataset, and what tells the comparison from others on it. tied: labels whose score does not differ
    significantly from the highest. front: labels on the Pareto front over accuracy, test time and compressed size.
    rank_acceptability: label -> share of all weights under which it ranks first. hardware: the machine that timed them.
    """

    title: Title
    entries: tuple[Entry, ...]
    tied: frozenset[str]
    front: frozenset[str]
    rank_acceptability: Mapping[str, float]
    weight_flips: tuple[WeightFlip, ...]
    hardware: str

    @property
    def eligible(self) -> tuple[Entry, ...]:
        """The entries that may be operated, the highest score first."""
        return tuple(entry for entry in self.entries if entry.eligible)

    @property
    def ties(self) -> frozenset[str]:
        """The labels of `tied` where others than the winner are among them; else none."""
        return self.tied if len(self.tied) > 1 else frozenset()

    @property
    def winner(self) -> Entry | None:
        """The eligible entry with the highest score; None where none is eligible."""
        return next(iter(self.eligible), None)


@dataclass(frozen=True, kw_only=True)
class WeightFlip:
    """The nearest change of one exponent alone that makes another entry the winner.

    before, after: the exponent of `criterion`; after is NaN if no change does it. winner: the label that then leads.
    """

    criterion: str
    before: float
    after: float
    winner: str


def compare(cells: Iterable[RecordedCell]) -> list[Comparison]:
    """One comparison for each group of cells that compare (`groups`), by name."""
    return [_compare(title, of_one) for title, of_one in groups_of(cells).items()]


def _compare(title: Title, cells: Sequence[RecordedCell]) -> Comparison:
    entries = sorted(entries_of(cells), key=lambda entry: -entry.score.value)
    scored = [entry for entry in entries if entry.eligible]
    criteria = np.array(
        [[entry.accuracy.value, -entry.test_ms.value, -entry.compressed_bytes.value] for entry in entries]
    )
    on_front = pareto_front(criteria.reshape(-1, 3))
    weights, values = _weighted(scored)
    shares = rank_acceptability(values, draws=DRAWS, seed=SEED)
    spread = training_time.spread([entry.runs for entry in entries])
    return Comparison(
        title=title,
        entries=tuple(entries),
        tied=frozenset(_tied(scored, spread)),
        front=frozenset(entry.label for entry, on in zip(entries, on_front, strict=True) if on),
        rank_acceptability={entry.label: float(share) for entry, share in zip(scored, shares, strict=True)},
        weight_flips=tuple(_weight_flips(scored, weights, values)),
        hardware=cells[0].hardware,
    )


def pareto_front(values: Floats) -> npt.NDArray[np.bool_]:
    """Which rows no other row dominates, where more is better in every column.

    values: (n, criteria). Equal rows do not dominate each other. A row with NaN is not on the front and dominates none.
    """
    places = np.flatnonzero(~np.isnan(values).any(axis=1))
    at = 0
    while at < len(places):
        left, row = values[places], values[places[at]]
        kept = (left > row).any(axis=1) | (left == row).all(axis=1)
        places, at = places[kept], int(kept[: at + 1].sum())
    on_front = np.zeros(len(values), dtype=np.bool_)
    on_front[places] = True
    return on_front


def rank_acceptability(values: Floats, *, draws: int, seed: int) -> Floats:
    """The share of random weights under which each row ranks first: stochastic multicriteria acceptability.

    values: (n, criteria), of which a weighted sum is the score. The weights are uniform over all that are positive and
    sum to one. Rows with equal sums share the rank. Returns (n,), summing to one unless n is 0.
    Source: Lahdelma, Hokkanen and Salminen 1998, doi:10.1016/S0377-2217(97)00163-X.
    """
    shares = np.zeros(len(values))
    if not len(values):
        return shares
    weights = np.random.default_rng(seed).dirichlet(np.ones(values.shape[1]), size=draws)
    # A row that another row dominates by more than rounding never leads.
    leading = np.flatnonzero(pareto_front(values.round(6)))
    # The sums of one part take 16 MB.
    for part in np.array_split(weights, math.ceil(draws * len(leading) / 2e6)):
        sums = part @ values[leading].T
        best = sums >= sums.max(axis=1, keepdims=True) - 1e-9
        shares[leading] += (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
    return shares / draws


def nearest_flip(weights: Floats, values: Floats, criterion: int) -> tuple[float, int] | None:
    """The nearest weight of one criterion, all others as they are, at which row 0 no longer leads.

    weights: (criteria,). values: (n, criteria); row 0 leads under `weights`. Returns the weight, more than 0, and the
    row that leads beyond it; None where no weight does it.
    """
    behind = (values[0] - values[1:]) @ weights
    slope = values[0, criterion] - values[1:, criterion]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(slope != 0, -behind / slope, np.nan)
    # A weight is more than 0, where the two would be level.
    change[weights[criterion] + change <= 1e-12] = np.nan
    if np.isnan(change).all():
        return None
    nearest = int(np.nanargmin(np.abs(change)))
    return float(weights[criterion] + change[nearest]), nearest + 1


def _weighted(entries: Sequence[Entry]) -> tuple[Floats, Floats]:
    """The score's exponents and what they multiply, (n, criteria), in dB."""
    if not entries:
        return np.ones(len(CRITERIA)), np.empty((0, len(CRITERIA)))
    exponents = entries[0].runs[0].exponents
    weights = np.array([exponents[name] for name in entries[0].terms])
    return weights, np.array([list(entry.factors.values()) for entry in entries])


def _tied(entries: Sequence[Entry], train_spread: float) -> list[str]:
    """Entries whose score may be as high as the first one's, the first one included.

    An entry can be as high only if it is above a bound or the first one is below it. Where both together are too
    unlikely for a tie, nothing is drawn.
    """
    if not entries:
        return []
    leading = possible_scores(entries[0], train_spread, DRAWS, [SEED, 0])
    bound = float(np.quantile(leading, TAIL_PROBABILITY))
    return [
        entry.label
        for place, entry in enumerate(entries)
        if place == 0
        or (
            _highest_score(entry, train_spread) >= bound
            and np.mean(possible_scores(entry, train_spread, DRAWS, [SEED, place]) >= leading) >= SIGNIFICANCE / 2
        )
    ]


def leads(entry: Entry, other: Entry, train_spread: float) -> bool:
    """Whether an entry's score is higher than another's and the two are not tied."""
    higher = entry.score.value > other.score.value
    return higher and len(_tied([entry, other], train_spread)) == 1


def possible_scores(entry: Entry, train_spread: float, draws: int, seed: Sequence[int]) -> Floats:
    """Draws of an entry's score. Each entry has a seed of its own, so that its draws do not depend on other entries.

    Accuracy: from its binomial posterior under Jeffreys' prior, independent of other entries, though all share the test
    images. Several runs: plus the t distribution of the mean score, whose spread does not include the choice of the
    images, as all seeds saw the same. One run: latency from the interval of its ratio, that of a repeat, sqrt(2) times
    as wide as the error of one measurement, and training times that scatter by train_spread, in which a training that
    several entries share is the same draw for all. This finds too many ties rather than too few, but for what the load
    of the machine has done to the times of several baselines.
    """
    rng = np.random.default_rng(seed)
    if len(entry.runs) > 1:
        mean, error = _mean_score(entry)
        of_seeds = mean + error * rng.standard_t(len(entry.runs) - 1, size=draws)
        return np.asarray(of_seeds + _accuracy_change(entry, rng.beta(*_posterior(entry), size=draws)))
    run = entry.runs[0]
    accuracies, latencies = rng.beta(*_posterior(entry), size=draws), rng.normal(size=draws)
    trainings = [np.random.default_rng([*seed[:1], round(1e6 * part)]).normal(size=draws) for part in run.trainings]
    return _scores(entry, accuracies, latencies, train_spread * np.array(trainings))


def _highest_score(entry: Entry, train_spread: float) -> float:
    """A bound that an entry's score exceeds with a probability of at most 5 * TAIL_PROBABILITY."""
    from scipy.special import betaincinv, ndtri

    accuracy = np.array([betaincinv(*_posterior(entry), 1 - TAIL_PROBABILITY)])
    if len(entry.runs) > 1:
        mean, error = _mean_score(entry)
        seeds = mean + error * t_quantile(len(entry.runs) - 1, 1 - 3 * TAIL_PROBABILITY)
        return seeds + float(_accuracy_change(entry, accuracy)[0])
    run = entry.runs[0]
    # The score is above the bound only if accuracy, latency or one of three training times is better than these.
    fast = np.array([ndtri(TAIL_PROBABILITY)])
    trainings = np.full((len(run.trainings), 1), train_spread * fast[0])
    return float(_scores(entry, accuracy, fast, trainings)[0])


def _mean_score(entry: Entry) -> tuple[float, float]:
    """The mean score over seeds and its standard error."""
    return mean_error([run.metrics[SCORE] for run in entry.runs])


def _posterior(entry: Entry) -> tuple[float, float]:
    """The parameters of the beta distribution of an entry's accuracy, by the number of test images."""
    images = entry.runs[0].test_images
    right = entry.accuracy.value * images
    return right + 0.5, images - right + 0.5


def _accuracy_change(entry: Entry, accuracies: Floats) -> Floats:
    """What other accuracies, (n,), add to an entry's score in dB; 0 where the number of test images is unknown."""
    run = entry.runs[0]
    weight = run.exponents["accuracy"]
    if not run.test_images or not weight:
        return np.zeros(len(accuracies))
    corrected = kappa(np.append(accuracies, entry.accuracy.value), run.metrics[CHANCE])
    return decibels(weight, np.log10(corrected[:-1] / corrected[-1]))


def _scores(entry: Entry, accuracies: Floats, latencies: Floats, trainings: Floats) -> Floats:
    """The scores of an entry of one run for other accuracies and times.

    accuracies: (n,). latencies: standard deviations of the measured log latency, (n,). trainings: changes of the log
    time of each of `run.trainings`, (parts, n).
    """
    (run,) = entry.runs
    weights = run.exponents
    score = run.metrics[SCORE] + _accuracy_change(entry, accuracies)
    low, high = (run.metrics.get(name, math.nan) for name in (RATIO_LOW, RATIO_HIGH))
    spread = math.log(high / low) / (2 * Z) if low > 0 else LATENCY_SPREAD
    score += decibels(-weights["test_time"], spread * latencies / math.log(10))
    parts = np.array(run.trainings)
    if weights["train_time"] and parts.sum() > TRAIN_FLOOR_S and term_of("train_time") in run.metrics:
        score += decibels(-weights["train_time"], np.log10(parts @ np.exp(trainings) / parts.sum()))
    return score


def _weight_flips(entries: Sequence[Entry], weights: Floats, values: Floats) -> list[WeightFlip]:
    flips = []
    for criterion, name in enumerate(entries[0].terms if entries else CRITERIA):
        found = nearest_flip(weights, values, criterion) if len(entries) > 1 else None
        after, winner = (found[0], entries[found[1]].label) if found else (math.nan, "")
        flips.append(WeightFlip(criterion=name, before=float(weights[criterion]), after=after, winner=winner))
    return flips
