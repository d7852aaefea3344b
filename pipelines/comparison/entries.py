"""Recorded cells as entries of a comparison: their seeds taken together, with 95% intervals."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipelines.comparison import training_time
from pipelines.comparison.budgets import used_budgets
from pipelines.comparison.labels import (
    differing_settings,
    images_of,
    in_short_words,
    in_words,
    kind_of,
    settings_key,
    settings_of,
)
from pipelines.comparison.marks import marks_of
from pipelines.results import columns
from pipelines.results.cell_result import DIMENSIONS
from pipelines.results.metrics import (
    ACCURACY,
    CHANCE,
    COMPRESSED_BYTES,
    FILE_BYTES,
    GAIN,
    SCORE,
    TEST_MS,
    TRAIN_S,
    gain_of,
    term_of,
)
from pipelines.results.score import CRITERIA, factors
from pipelines.results.statistics import mean_interval, mean_share, wilson
from pipelines.system.words import listed, some

if TYPE_CHECKING:
    from pipelines.results.cell_result import Verdict
    from pipelines.results.columns import Column
    from pipelines.results.on_device import OnDevice
    from pipelines.results.recorded_cell import RecordedCell


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95% interval. A bound that cannot be computed is NaN, and so is a value that does not exist."""

    value: float
    low: float = math.nan
    high: float = math.nan


NOTHING = Estimate(value=math.nan)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One cell, with all its seeds.

    label: unique in its comparison. differing: the settings in which it differs from other entries of its name, by
    their names, without its teacher or donor, which is `source`. accuracy: a fraction. score, gain, gains: dB. gains:
    by criterion, empty for a baseline. marks: better, tied or worse than its baseline by criterion and in `time`, which
    is testing and training together; without what is unknown, and empty for a cell without a baseline. uninformed: the
    finding that its accuracy is no better than one constant answer's in one seed or more, else empty.
    """

    label: str
    model: str
    dataset: str
    technique: str
    source: str
    differing: Mapping[str, str]
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
    uninformed: str = ""

    @property
    def name(self) -> str:
        """Model, dataset and technique, or the name that a person gave to a run."""
        return self.runs[0].name

    @property
    def optimized_with(self) -> str:
        """The technique, with its teacher or donor."""
        return self.technique + (f" from {self.source}" if self.source else "")

    @property
    def settings(self) -> str:
        """`differing` in words, as `training.epochs=3`."""
        return in_words(self.differing)

    @property
    def short_settings(self) -> str:
        """`differing` in short words, as `epochs=3`."""
        return in_short_words(self.differing)

    @property
    def eligible(self) -> bool:
        """Whether it may be the fittest: it keeps its budgets and has learnt something in every seed."""
        return self.feasible and not self.uninformed

    @property
    def missed(self) -> tuple[str, ...]:
        """The budgets and goals that it misses in one seed or more, by their names in the score profile."""
        return tuple(dict.fromkeys(name for run in self.runs for name, used in used_budgets(run).items() if used > 1))

    @property
    def improved(self) -> int | None:
        """How many of accuracy, time and size are better than its baseline's; None where it has no marks."""
        return [self.marks[name] for name in DIMENSIONS].count("better") if self.marks else None

    @property
    def devices(self) -> tuple[OnDevice, ...]:
        """How its seeds run on the device whose times count; empty where the times are those of its own runs."""
        return tuple(run.device for run in self.runs if run.device)

    @property
    def runtime(self) -> str:
        """The runtime on that device; empty without a device."""
        return ", ".join(sorted({one.runtime for one in self.devices}))

    @property
    def is_reliable(self) -> bool:
        """Whether its times on that device are; True without a device."""
        return all(one.is_reliable for one in self.devices)

    @property
    def agreement(self) -> float | None:
        """The least share of images on which the runtime's class is LiteRT's; None where it was not measured."""
        return min((one.agreement for one in self.devices if one.agreement is not None), default=None)

    def ms_on(self, runtime: str) -> float:
        """The mean time of one image by a runtime on that device; NaN where it was not measured."""
        times = [one.times_ms.get(runtime, math.nan) for one in self.devices]
        return float(np.mean(times)) if times else math.nan

    @property
    def train_unknown(self) -> bool:
        """Whether its training time is unknown in one seed or more."""
        return any(run.train_unknown for run in self.runs)

    @property
    def terms(self) -> dict[str, float]:
        """The score's terms in dB by criterion, as means over seeds; without a criterion that the score leaves out."""
        return {
            name: float(np.mean([run.metrics[term_of(name)] for run in self.runs]))
            for name in CRITERIA
            if all(term_of(name) in run.metrics for run in self.runs)
        }

    @property
    def factors(self) -> dict[str, float]:
        """What the exponents multiply: 20 log10 of each criterion in dB, as means over seeds, for those of `terms`.

        From the measured values, so that a criterion that the score does not weigh has one too.
        """
        of_runs = [_factors(run) for run in self.runs]
        return {name: float(np.mean([one[name] for one in of_runs])) for name in self.terms}

    def estimate(self, column: Column) -> Estimate:
        """The value of a column of `columns.MEASURED` or `columns.GAINS`, or of `columns.IMPROVED`."""
        if column is columns.IMPROVED:
            return Estimate(value=math.nan if self.improved is None else self.improved)
        for name, of_criterion in columns.GAINS.items():
            if column is of_criterion:
                return Estimate(value=self.gains.get(name, math.nan))
        own: Estimate = getattr(self, column.key)
        return own

    def format_interval(self) -> str:
        """The accuracy's interval, `98.1% to 98.9%`; a dash where it cannot be computed."""
        low, high = self.accuracy.low, self.accuracy.high
        return "-" if math.isnan(low) else f"{columns.percent(low)} to {columns.percent(high)}"

    def format_estimate(self, column: Column) -> str:
        """`estimate` as text, a dash where it does not exist, `unknown` for an unknown training time."""
        if column is columns.TRAIN_S and self.train_unknown:
            return columns.UNKNOWN
        return column.text(self.estimate(column).value)


def seeds_note(entries: Sequence[Entry]) -> str | None:
    """A sentence if entries are means over different seeds, which differ by more than what is compared; else None."""
    chosen = {tuple(sorted((run.seed for run in entry.runs), key=int)) for entry in entries}
    if len(chosen) < 2:
        return None
    few = min(entries, key=lambda entry: len(entry.runs))
    seeds = "; ".join(", ".join(one) for one in sorted(chosen, key=lambda one: (-len(one), one)))
    return (
        f"The cells have different seeds ({seeds}), by which their means differ too: run those that are missing, for "
        f"example of {few.label}."
    )


def code_note(entries: Sequence[Entry]) -> str | None:
    """A sentence if seeds of one entry were computed by different code or libraries; else None."""
    mixed = [entry.label for entry in entries if len({run.code for run in entry.runs if run.code}) > 1]
    if not mixed:
        return None
    return (
        f"Code or libraries changed between the seeds of {some(mixed, 1)}"
        ", so their means are of neither version: the same command again runs those of the older one."
    )


def litert_note(entries: Sequence[Entry]) -> str | None:
    """A sentence if the test times are of different versions of LiteRT; else None."""
    versions = {run.litert for entry in entries for run in entry.runs if run.litert and run.device is None}
    if len(versions) < 2:
        return None
    return (
        f"The test times are of different versions of LiteRT ({listed(sorted(versions))}): the same sweep again "
        "measures the older ones anew, without training."
    )


def notes_of(entries: Sequence[Entry]) -> list[str]:
    """The sentences on seeds, and on versions that differ, that the entries call for."""
    return [note for note in (seeds_note(entries), code_note(entries), litert_note(entries)) if note]


def entries_of(cells: Sequence[RecordedCell]) -> list[Entry]:
    """Cells that differ in their seed alone become one entry; of a cell that was run twice the newest run counts.

    Cells with equal settings but other training or test images are different: a folder of images may change. Where the
    training time of a cell is unknown, the scores of all leave it out.
    """
    groups: dict[frozenset[tuple[str, str]], dict[str, RecordedCell]] = defaultdict(dict)
    for cell in sorted(cells, key=lambda cell: cell.started):
        groups[settings_key(cell)][cell.seed] = cell
    newest = iter(training_time.comparable([cell for by_seed in groups.values() for cell in by_seed.values()]))
    runs = [tuple(sorted((next(newest) for _ in by_seed), key=lambda run: run.started)) for by_seed in groups.values()]
    first = [of_one[0] for of_one in runs]
    names = [cell.name for cell in first]
    settings = differing_settings(list(map(settings_of, first)), names, list(map(kind_of, first)))
    labels = list(map(_label, names, settings))
    # Images are in the label only where the settings do not tell two entries apart.
    images = differing_settings(list(map(images_of, first)), labels, labels)
    count = Counter(labels)
    settings = [
        one | (of_images if count[label] > 1 else {})
        for label, one, of_images in zip(labels, settings, images, strict=True)
    ]
    return [_entry(of_one, own) for of_one, own in zip(runs, settings, strict=True)]


def _label(name: str, settings: Mapping[str, str]) -> str:
    return " ".join(filter(None, (name, in_words(settings))))


def _entry(runs: tuple[RecordedCell, ...], settings: Mapping[str, str]) -> Entry:
    first = runs[0]

    def over_seeds(name: str) -> Estimate:
        values = [run.metrics[name] for run in runs if name in run.metrics]
        return NOTHING if len(values) < len(runs) else _mean(values)

    # A technique that only trains, of one's own, may be a baseline under another name.
    compared = bool(first.baseline)
    return Entry(
        label=_label(first.name, settings),
        model=first.model,
        dataset=first.dataset,
        technique=first.technique,
        source=first.source,
        differing={key: value for key, value in settings.items() if key != "source"},
        runs=runs,
        accuracy=_accuracy(runs),
        test_ms=over_seeds(TEST_MS),
        train_s=over_seeds(TRAIN_S),
        file_bytes=over_seeds(FILE_BYTES),
        compressed_bytes=over_seeds(COMPRESSED_BYTES),
        score=over_seeds(SCORE),
        gain=over_seeds(GAIN),
        gains={name: over_seeds(gain_of(name)).value for name in CRITERIA} if compared else {},
        marks=marks_of(runs) if compared else {},
        feasible=all(run.feasible for run in runs),
        uninformed=_uninformed(runs),
    )


def _factors(run: RecordedCell) -> dict[str, float]:
    metrics = run.metrics
    return asdict(
        factors(
            accuracy=run.accuracy,
            chance=metrics[CHANCE],
            compressed_bytes=metrics[COMPRESSED_BYTES],
            test_ms=metrics[TEST_MS],
            train_s=metrics.get(TRAIN_S, 0.0),
        )
    )


def _mean(values: Sequence[float]) -> Estimate:
    """The mean with its interval; a single value has none."""
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
    """The mean accuracy, with an interval from the spread over seeds or, for one seed, from the number of images."""
    values, images = [run.metrics[ACCURACY] for run in runs], runs[0].test_images
    mean = float(np.mean(values))
    if len(values) == 1 and not images:
        return Estimate(value=mean)
    low, high = mean_share(values, images) if len(values) > 1 else wilson(mean * images, images)
    return Estimate(value=mean, low=low, high=high)
