"""Recorded cells beside each other: seeds taken together, intervals, ties, the Pareto front and the score's weights.

Cells are compared within one dataset. Everything here is arithmetic on `RecordedCell`s; nothing is downloaded.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.results import columns
from pipelines.results.metrics import (
    ACCURACY,
    ACCURACY_P_VALUE,
    COMPRESSED_BYTES,
    FILE_BYTES,
    GAIN,
    RATIO_HIGH,
    RATIO_LOW,
    SCORE,
    TEST_MS,
    TRAIN_S,
    gain_of,
    term_of,
)
from pipelines.results.score import CRITERIA, chance_behind, decibels, factor, kappa
from pipelines.results.statistics import SIGNIFICANCE, Z, mean_error, mean_interval, mean_share, t_quantile, wilson
from pipelines.results.verdict import accuracy_verdict, size_verdict, time_verdict

if TYPE_CHECKING:
    from pipelines.results.columns import Column
    from pipelines.results.recorded import RecordedCell
    from pipelines.results.records import Verdict

Floats = npt.NDArray[np.float64]

# Latencies whose own interval is not known: what two measurements of one exported model differed by on a quiet machine.
LATENCY_SPREAD = 0.02
BASELINE = "baseline"
# Chance that an accuracy, a latency or the first one's score lies beyond the bound by which entries are told untied
# without a draw: the three together are half of what a tie takes, ten standard errors of the draws away from it.
TAIL_PROBABILITY = SIGNIFICANCE / 12


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95% interval; the bounds are NaN where there is no telling, the value too where none exists."""

    value: float
    low: float = math.nan
    high: float = math.nan


NOTHING = Estimate(value=math.nan)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell, its seeds taken together.

    label: unique in its comparison. accuracy is a fraction; test_ms, train_s and the bytes are what MLflow's metrics of
    the same names are; score and gains are in dB. gains and marks: by criterion, empty for a baseline. improved: in how
    many of accuracy, time and size it beats its baseline. uninformed: in words, that its accuracy is no better than one
    constant answer's in one seed or more; else empty. mixed: its seeds were timed on different hardware, so its
    times, score and gain are not averaged but left out.
    """

    label: str
    model: str
    dataset: str
    technique: str
    source: str
    runs: tuple[RecordedCell, ...] = field(repr=False)
    accuracy: Estimate
    test_ms: Estimate
    train_s: Estimate
    file_bytes: Estimate
    compressed_bytes: Estimate
    score: Estimate
    gain: Estimate
    gains: Mapping[str, float]
    marks: Mapping[str, Verdict]
    feasible: bool
    mixed: bool
    uninformed: str = ""

    @property
    def eligible(self) -> bool:
        """Whether it may be the fittest: it keeps its budgets, and has learnt something in every seed."""
        return self.feasible and not self.uninformed

    @property
    def improved(self) -> int | None:
        """In how many of accuracy, time and size it is better than its baseline; None for a baseline."""
        return list(self.marks.values()).count("better") if self.marks else None

    @property
    def terms(self) -> dict[str, float]:
        """The score's terms in dB by criterion, over seeds their mean."""
        return {name: float(np.mean([run.metrics[term_of(name)] for run in self.runs])) for name in CRITERIA}

    def estimate(self, column: Column) -> Estimate:
        """What stands in a column of `columns.MEASURED` or `columns.GAINS`, or in `columns.IMPROVED`."""
        if column is columns.IMPROVED:
            return Estimate(value=math.nan if self.improved is None else self.improved)
        for name, of_criterion in columns.GAINS.items():
            if column is of_criterion:
                return Estimate(value=self.gains.get(name, math.nan))
        own: Estimate = getattr(self, column.key)
        return own

    def format_estimate(self, column: Column) -> str:
        """The same as text, a dash where there is nothing."""
        return column.text(self.estimate(column).value)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The entries of one dataset, by falling score.

    tied: labels that cannot be told from the first one's score. front: labels on the Pareto front over accuracy, test
    time and compressed size. rank_acceptability: label -> share of all weights under which it ranks first. hardware:
    what they were timed on; more than one makes times of different entries incomparable.
    """

    dataset: str
    entries: tuple[Entry, ...]
    tied: frozenset[str]
    front: frozenset[str]
    rank_acceptability: Mapping[str, float]
    weight_flips: tuple[WeightFlip, ...]
    hardware: tuple[str, ...]

    @property
    def winner(self) -> Entry | None:
        """The eligible entry with the highest score; None where none is eligible."""
        return next((entry for entry in self.entries if entry.eligible and not math.isnan(entry.score.value)), None)


@dataclass(frozen=True, kw_only=True)
class WeightFlip:
    """The nearest change of one exponent alone that makes another entry the winner.

    before, after: the exponent of `criterion`; winner: the label that then leads. after is NaN where no change does.
    """

    criterion: str
    before: float
    after: float
    winner: str


def compare(cells: Iterable[RecordedCell], *, draws: int = 10_000, seed: int = 0) -> list[Comparison]:
    """One comparison for each dataset. draws: of random weights, and of scores for the ties."""
    by_dataset: dict[str, list[RecordedCell]] = defaultdict(list)
    for cell in cells:
        by_dataset[cell.dataset].append(cell)
    return [_compare(dataset, of_one, draws=draws, seed=seed) for dataset, of_one in sorted(by_dataset.items())]


def _compare(dataset: str, cells: Sequence[RecordedCell], *, draws: int, seed: int) -> Comparison:
    entries = sorted(entries_of(cells), key=lambda entry: _falling(entry.score.value))
    scored = [entry for entry in entries if entry.eligible and not math.isnan(entry.score.value)]
    criteria = np.array(
        [[entry.accuracy.value, -entry.test_ms.value, -entry.compressed_bytes.value] for entry in entries]
    )
    on_front = pareto_front(criteria.reshape(-1, 3))
    weights, values = _weighted(scored)
    shares = rank_acceptability(values, draws=draws, seed=seed)
    return Comparison(
        dataset=dataset,
        entries=tuple(entries),
        tied=frozenset(_tied(scored, draws=draws, seed=seed)),
        front=frozenset(entry.label for entry, on in zip(entries, on_front, strict=True) if on),
        rank_acceptability={entry.label: float(share) for entry, share in zip(scored, shares, strict=True)},
        weight_flips=tuple(_weight_flips(scored, weights, values)),
        hardware=tuple(sorted({cell.hardware for cell in cells})),
    )


def entries_of(cells: Sequence[RecordedCell]) -> list[Entry]:
    """Cells that differ in nothing but their seed become one entry; of a cell that was run twice the newest counts.

    Cells that were trained or tested on other images are others, although they were asked for alike: a folder of
    images is not the same tomorrow.
    """
    groups: dict[frozenset[tuple[str, str]], dict[str, RecordedCell]] = defaultdict(dict)
    for cell in sorted(cells, key=lambda cell: cell.started):
        groups[frozenset((_asked(cell) | _images(cell) | {"name": cell.name}).items())][cell.seed] = cell
    runs = [tuple(by_seed.values()) for by_seed in groups.values()]
    labels = _labels([_asked(of_one[0]) for of_one in runs], [of_one[0].name for of_one in runs])
    # What was asked for tells cells apart better than the images that came of it.
    twice = {label for label in labels if labels.count(label) > 1}
    images = _labels([_images(of_one[0]) for of_one in runs], labels)
    labels = [known if label in twice else label for label, known in zip(labels, images, strict=True)]
    return [_entry(label, of_one) for label, of_one in zip(labels, runs, strict=True)]


def _asked(cell: RecordedCell) -> dict[str, str]:
    """What a cell was asked for, but the seed, and but what its parts are called, which is in the cell's name."""
    called = ("model.name", "dataset.name")
    return {key: value for key, value in cell.params.items() if key != "seed" and not key.endswith(called)} | {
        "source": cell.source
    }


def _images(cell: RecordedCell) -> dict[str, str]:
    """The contents of the images that a cell was trained and tested on, as far as they are recorded."""
    return {"training-images": cell.training_digest[:8], "test-images": cell.digest[:8]}


def pareto_front(values: Floats) -> npt.NDArray[np.bool_]:
    """Which rows no other row dominates; more is better in every column.

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
    sum to one. Rows with equal sums share the rank. Gives (n,), summing to one unless n is 0.
    Source: Lahdelma, Hokkanen and Salminen 1998, doi:10.1016/S0377-2217(97)00163-X.
    """
    shares = np.zeros(len(values))
    if not len(values):
        return shares
    weights = np.random.default_rng(seed).dirichlet(np.ones(values.shape[1]), size=draws)
    # A row that another one dominates by more than rounding never leads.
    leading = np.flatnonzero(pareto_front(values.round(6)))
    # So many draws at a time that the sums need 16 MB.
    for part in np.array_split(weights, math.ceil(draws * len(leading) / 2e6)):
        sums = part @ values[leading].T
        best = sums >= sums.max(axis=1, keepdims=True) - 1e-9
        shares[leading] += (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
    return shares / draws


def nearest_flip(weights: Floats, values: Floats, criterion: int) -> tuple[float, int] | None:
    """The nearest weight of one criterion, all others as they are, at which row 0 no longer leads.

    weights: (criteria,). values: (n, criteria); row 0 leads under `weights`. Gives the weight, more than 0, and the row
    that leads beyond it; None where no weight does it.
    """
    behind = (values[0] - values[1:]) @ weights
    slope = values[0, criterion] - values[1:, criterion]
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where(slope != 0, -behind / slope, np.nan)
    # At a weight of 0 the two would be level, and below it there is none.
    change[weights[criterion] + change <= 1e-12] = np.nan
    if np.isnan(change).all():
        return None
    nearest = int(np.nanargmin(np.abs(change)))
    return float(weights[criterion] + change[nearest]), nearest + 1


def _entry(label: str, runs: tuple[RecordedCell, ...]) -> Entry:
    first = runs[0]
    mixed = len({run.hardware for run in runs}) > 1

    def over_seeds(name: str, *, timed: bool = False) -> Estimate:
        values = [run.metrics[name] for run in runs if name in run.metrics]
        return NOTHING if len(values) < len(runs) or (timed and mixed) else _mean(values)

    compared = first.technique != BASELINE and not mixed
    return Entry(
        label=label,
        model=first.model,
        dataset=first.dataset,
        technique=first.technique,
        source=first.source,
        runs=runs,
        accuracy=_accuracy(runs),
        test_ms=over_seeds(TEST_MS, timed=True),
        train_s=over_seeds(TRAIN_S, timed=True),
        file_bytes=over_seeds(FILE_BYTES),
        compressed_bytes=over_seeds(COMPRESSED_BYTES),
        score=over_seeds(SCORE, timed=True),
        gain=over_seeds(GAIN, timed=True),
        gains={name: over_seeds(gain_of(name)).value for name in CRITERIA} if compared else {},
        marks=_marks(runs) if compared else {},
        feasible=all(run.feasible == "True" for run in runs),
        mixed=mixed,
        uninformed=_uninformed(runs),
    )


def _mean(values: Sequence[float]) -> Estimate:
    """The mean with its interval; none for a single value."""
    if len(values) == 1:
        return Estimate(value=float(values[0]))
    low, high = mean_interval(values)
    return Estimate(value=float(np.mean(values)), low=low, high=high)


def _uninformed(runs: Sequence[RecordedCell]) -> str:
    found = [run.uninformed for run in runs if run.uninformed]
    if not found:
        return ""
    return found[0] if len(runs) == 1 else f"{found[0]} with {len(found)} of {len(runs)} seeds"


def _accuracy(runs: Sequence[RecordedCell]) -> Estimate:
    """Over seeds what they scatter; of one seed what the number of test images allows."""
    values, images = [run.metrics[ACCURACY] for run in runs], runs[0].test_images
    mean = float(np.mean(values))
    if len(values) == 1 and not images:
        return Estimate(value=mean)
    low, high = mean_share(values, images) if len(values) > 1 else wilson(mean * images, images)
    return Estimate(value=mean, low=low, high=high)


def _marks(runs: Sequence[RecordedCell]) -> dict[str, Verdict]:
    """Better, tied or worse than the baseline in accuracy, time and size: what most seeds say, else tied."""
    by_run = [_marks_of(run) for run in runs]
    marks: dict[str, Verdict] = {}
    for name in ("accuracy", "time", "size"):
        said = [marks_of_run[name] for marks_of_run in by_run]
        marks[name] = next((mark for mark in ("better", "worse") if said.count(mark) * 2 > len(said)), "tied")
    return marks


def _marks_of(run: RecordedCell) -> dict[str, Verdict]:
    metrics = run.metrics
    return {
        "accuracy": accuracy_verdict(metrics[gain_of("accuracy")], metrics[ACCURACY_P_VALUE]),
        "time": time_verdict(metrics[RATIO_LOW], metrics[RATIO_HIGH]),
        # Of the compressed bytes; a gain without an exponent tells nothing.
        "size": size_verdict(factor(float(run.params["score.size"]), -metrics[gain_of("size")])),
    }


def _labels(groups: Sequence[Mapping[str, str]], names: Sequence[str]) -> list[str]:
    """The cells' names, with what differs between cells of the same name."""
    values: dict[str, dict[str, set[str | None]]] = defaultdict(lambda: defaultdict(set))
    keys: dict[str, set[str]] = defaultdict(set)
    for asked, name in zip(groups, names, strict=True):
        keys[name].update(asked)
    for asked, name in zip(groups, names, strict=True):
        for key in keys[name]:
            values[name][key].add(asked.get(key))
    labels = []
    for asked, name in zip(groups, names, strict=True):
        differing = sorted(key for key in asked if len(values[name][key]) > 1)
        labels.append(" ".join([name, *(f"{key}={asked[key]}" for key in differing)]))
    return labels


def _weighted(entries: Sequence[Entry]) -> tuple[Floats, Floats]:
    """The score's exponents and, (n, 4), what each multiplies: 20 log10 of the criterion, in dB."""
    if not entries:
        return np.ones(len(CRITERIA)), np.empty((0, len(CRITERIA)))
    weights = np.array([float(entries[0].runs[0].params[f"score.{name}"]) for name in CRITERIA])
    terms = np.array([list(entry.terms.values()) for entry in entries])
    return weights, np.divide(terms, weights, out=np.zeros_like(terms), where=weights > 0)


def _tied(entries: Sequence[Entry], *, draws: int, seed: int) -> list[str]:
    """Entries whose score may be as high as the first one's, which is one of them.

    An entry can be as high only where it is above a bound or the first one below it. Where both together are too
    unlikely for a tie, nothing is drawn.
    """
    if not entries:
        return []
    leading = possible_scores(entries[0], draws, [seed, 0])
    bound = float(np.quantile(leading, TAIL_PROBABILITY))
    return [
        entry.label
        for place, entry in enumerate(entries)
        if place == 0
        or (
            _highest_score(entry) >= bound
            and np.mean(possible_scores(entry, draws, [seed, place]) >= leading) >= SIGNIFICANCE / 2
        )
    ]


def possible_scores(entry: Entry, draws: int, seed: Sequence[int]) -> Floats:
    """Draws of an entry's score, by a seed of its own, so that they do not depend on whom else is drawn for.

    Of several seeds: the mean's t distribution. Of one: accuracy from its binomial posterior under Jeffreys' prior,
    latency from the interval of its ratio, independent of other entries. Two entries share test images, so this finds
    rather too many ties than too few.
    """
    rng = np.random.default_rng(seed)
    if len(entry.runs) > 1:
        mean, error = _mean_score(entry)
        return np.asarray(mean + error * rng.standard_t(len(entry.runs) - 1, size=draws))
    run = entry.runs[0]
    return _scores(run, rng.beta(*_posterior(run), size=draws), rng.normal(size=draws))


def _highest_score(entry: Entry) -> float:
    """What an entry's score exceeds with a chance of at most 2 * UNLIKELY."""
    from scipy.special import betaincinv, ndtri

    if len(entry.runs) > 1:
        mean, error = _mean_score(entry)
        return mean + error * t_quantile(len(entry.runs) - 1, 1 - 2 * TAIL_PROBABILITY)
    run = entry.runs[0]
    # The score is above this only where its accuracy or its latency is better than these.
    accuracy, latency = betaincinv(*_posterior(run), 1 - TAIL_PROBABILITY), ndtri(TAIL_PROBABILITY)
    return float(_scores(run, np.array([accuracy]), np.array([latency]))[0])


def _mean_score(entry: Entry) -> tuple[float, float]:
    """Over seeds, and its standard error."""
    return mean_error([run.metrics[SCORE] for run in entry.runs])


def _posterior(run: RecordedCell) -> tuple[float, float]:
    """The beta distribution of a run's accuracy."""
    right = run.metrics[ACCURACY] * run.test_images
    return right + 0.5, run.test_images - right + 0.5


def _scores(run: RecordedCell, accuracies: Floats, latencies: Floats) -> Floats:
    """A run's score if these were true. latencies: in standard deviations from the measured one, on a log scale."""
    weights = {name: float(run.params[f"score.{name}"]) for name in CRITERIA}
    score = np.full(len(accuracies), run.metrics[SCORE])
    if run.test_images and weights["accuracy"]:
        accuracy = run.metrics[ACCURACY]
        chance = chance_behind(accuracy, weights["accuracy"], run.metrics[term_of("accuracy")])
        corrected = kappa(np.append(accuracies, accuracy), chance)
        score += decibels(weights["accuracy"], np.log10(corrected[:-1] / corrected[-1]))
    low, high = (run.metrics.get(name, math.nan) for name in (RATIO_LOW, RATIO_HIGH))
    spread = math.log(high / low) / (2 * Z) if low > 0 else LATENCY_SPREAD
    return score + decibels(-weights["test_time"], spread * latencies / math.log(10))


def _weight_flips(entries: Sequence[Entry], weights: Floats, values: Floats) -> list[WeightFlip]:
    flips = []
    for criterion, name in enumerate(CRITERIA):
        found = nearest_flip(weights, values, criterion) if len(entries) > 1 else None
        after, winner = (found[0], entries[found[1]].label) if found else (math.nan, "")
        flips.append(WeightFlip(criterion=name, before=float(weights[criterion]), after=after, winner=winner))
    return flips


def _falling(value: float) -> float:
    return math.inf if math.isnan(value) else -value
