"""Which finished cell becomes a dataset's champion. This module reads no store.

A cell passes six gates in this order and stops at the first that it fails: its technique had an effect (true of every
finished cell, as a cell without one fails), its accuracy is significantly above that of always answering the most
frequent class, it keeps the budgets and goals of its score profile, it gives up no more accuracy than allowed below the
most accurate candidate, its score is better than the champion's, and its accuracy is not significantly worse than the
champion's by more than a margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipelines.champion.comparability import check_champion
from pipelines.comparison.budgets import used_budgets
from pipelines.comparison.entries import Entry, entries_of
from pipelines.comparison.shortlist import most_accurate, within
from pipelines.results import statistics
from pipelines.results.metrics import (
    MAJORITY_P_VALUE,
    MAJORITY_SHARE,
    SCORE,
)
from pipelines.results.recorded import BASELINE, Predictions, PredictionsOf, RecordedCell
from pipelines.results.score import GOALS
from pipelines.system.errors import StoreError

Name = Literal["effect", "learnt", "feasible", "drop", "score", "accuracy"]
# A cell that fails at a later gate is a nearer miss.
ORDER: tuple[Name, ...] = ("effect", "learnt", "feasible", "drop", "score", "accuracy")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Fractions of accuracy that may be given up.

    max_drop: below the most accurate candidate, by the measured accuracies. margin: below the champion, where the drop
    counts only if its whole 95% interval is beyond.
    """

    max_drop: float
    margin: float


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The outcome of one gate. reason: with its numbers. shortfall: distance from passing, comparable within a gate."""

    name: Name
    passed: bool
    reason: str
    shortfall: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """A cell with the gates that it reached; only the last one may have failed."""

    cell: RecordedCell
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether it may become champion."""
        return self.gates[-1].passed and len(self.gates) == len(ORDER)

    @property
    def miss(self) -> tuple[int, float]:
        """Sorts failed cells, the nearest miss first."""
        return -len(self.gates), self.gates[-1].shortfall


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Who becomes champion.

    winner: None if no candidate passed. misses: the candidates that failed, the nearest miss first. champion: the cell
    that they were compared with, if any. stands: the champion is itself a candidate and remains champion.
    most_accurate: of the candidates that have learnt something, if any.
    """

    winner: Assessment | None
    misses: tuple[Assessment, ...]
    champion: RecordedCell | None
    stands: bool
    most_accurate: Entry | None


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Takes cells through the gates.

    champion, most_accurate: what they are compared with. accuracies: the mean over its seeds by run id. predictions_of:
    called only for the last gate.
    """

    champion: RecordedCell | None
    most_accurate: Entry | None
    accuracies: Mapping[str, float]
    limits: Limits
    predictions_of: PredictionsOf

    def assess(self, cell: RecordedCell) -> Assessment:
        """Take one cell through the gates, up to the first that it fails."""
        steps: tuple[Callable[[], Gate], ...] = (
            lambda: Gate(name="effect", passed=True, reason=_effect(cell)),
            lambda: _learnt(cell),
            lambda: _feasible(cell),
            lambda: _drop(self.accuracies.get(cell.run_id, cell.accuracy), self.most_accurate, self.limits.max_drop),
            lambda: _score(cell, self.champion),
            # It costs a download.
            lambda: _accuracy(cell, self.champion, predictions_of=self.predictions_of, margin=self.limits.margin),
        )
        gates: list[Gate] = []
        for step in steps:
            gates.append(step())
            if not gates[-1].passed:
                break
        return Assessment(cell=cell, gates=tuple(gates))


def decide(
    cells: Sequence[RecordedCell],
    champion: RecordedCell | None,
    *,
    predictions_of: PredictionsOf,
    limits: Limits,
) -> Decision:
    """Assess all candidates by falling score; the first one that passes wins.

    cells: at least one, comparable with each other (`comparability.check_comparable`) and with the champion
    (`training_time.comparable`). A cell with the champion's fingerprint is a re-measured champion: it replaces the
    champion in the comparison and does not compete with it. predictions_of: reads a cell's predictions from the store;
    called only for the last gate. Raises ValueError if champion and candidates cannot be compared.
    """
    remeasured = [cell for cell in cells if champion is not None and cell.fingerprint == champion.fingerprint]
    if remeasured:
        champion = max(remeasured, key=lambda cell: cell.started)
    # As in the shortlist, seeds are averaged.
    entries = [entry for entry in entries_of(cells) if not entry.uninformed]
    best = most_accurate(entries) if entries else None
    accuracies = {run.run_id: entry.accuracy.value for entry in entries for run in entry.runs}
    judge = Judge(
        champion=champion, most_accurate=best, accuracies=accuracies, limits=limits, predictions_of=predictions_of
    )
    failed: list[Assessment] = []
    for cell in sorted((cell for cell in cells if cell not in remeasured), key=lambda cell: -cell.metrics[SCORE]):
        if champion is not None and _eligible(cell):
            check_champion(champion, cell)
        one = judge.assess(cell)
        if one.passed:
            misses = _nearest_first(failed)
            return Decision(winner=one, misses=misses, champion=champion, stands=False, most_accurate=best)
        failed.append(one)
    ineligible = [cell for cell in remeasured if not _eligible(cell)]
    failed += map(judge.assess, ineligible)
    stands = len(remeasured) > len(ineligible)
    misses = _nearest_first(failed)
    return Decision(winner=None, misses=misses, champion=champion, stands=stands, most_accurate=best)


def accuracy(own: Predictions, champion: Predictions, *, margin: float) -> Gate:
    """Fails if the whole 95% interval of the paired difference is below -margin.

    Both predictions are for the same images, in the same order. Each has its number of correct ones. Exactly one of
    them can be correct only where they differ, which bounds the interval (`statistics.paired_difference`).
    """
    images = len(own.predicted)
    differing = int(np.sum(own.predicted != champion.predicted))
    difference = own.correct - champion.correct
    low, high = statistics.paired_difference(difference, differing, images)
    reason = (
        f"{own.correct / images:.1%} against {champion.correct / images:.1%}, 95% interval of the difference "
        f"{100 * low:+.2f} to {100 * high:+.2f} points ({differing} of {images} predictions differ), allowed "
        f"{-100 * margin:+.2f}"
    )
    return Gate(name="accuracy", passed=high >= -margin, reason=reason, shortfall=-margin - high)


def _eligible(cell: RecordedCell) -> bool:
    """Whether it passes the gates that depend on nothing but the cell."""
    return _learnt(cell).passed and _feasible(cell).passed


def _effect(cell: RecordedCell) -> str:
    if cell.technique == BASELINE:
        return "none is asked of a baseline"
    return "its technique had one, else its run would have failed"


def _learnt(cell: RecordedCell) -> Gate:
    p_value, share = (cell.metrics.get(name) for name in (MAJORITY_P_VALUE, MAJORITY_SHARE))
    accuracy = f"{cell.accuracy:.1%}"
    if p_value is None or share is None:
        reason = "not tested, as the cell is older than this test: resume=false runs it again"
        return Gate(name="learnt", passed=True, reason=reason)
    if cell.uninformed is None:
        reason = f"{accuracy}, better than always answering {cell.majority!r} ({share:.1%} of the test images)"
        return Gate(name="learnt", passed=True, reason=reason)
    reason = f"{accuracy}, {cell.uninformed}"
    return Gate(name="learnt", passed=False, reason=reason, shortfall=p_value)


def _feasible(cell: RecordedCell) -> Gate:
    budgets = used_budgets(cell)
    excess = {name: ratio for name, ratio in budgets.items() if ratio > 1}
    if cell.feasible == "True":
        kept = ", ".join(f"score.{name}={cell.params[f'score.{name}']}" for name in budgets)
        return Gate(name="feasible", passed=True, reason=f"within {kept}" if kept else "its profile sets no budgets")
    reason = ", ".join(
        f"score.{name} missed by a factor of {ratio:.3g}"
        if ratio < math.inf
        else f"score.{name} missed"
        if name in GOALS
        else f"score.{name} cannot be checked, as the training time is unknown"
        for name, ratio in excess.items()
    )
    return Gate(name="feasible", passed=False, reason=reason, shortfall=max(excess.values(), default=1.0))


def _drop(accuracy: float, top: Entry | None, max_drop: float) -> Gate:
    """accuracy: the mean over the cell's seeds."""
    drop = top.accuracy.value - accuracy if top else 0.0
    seeds = f" over {len(top.runs)} seeds" if top and len(top.runs) > 1 else ""
    below = f"{100 * drop:.2f} points below {top.label}, the most accurate candidate{seeds}" if top and drop else ""
    return Gate(
        name="drop",
        passed=within(max_drop, drop),
        reason=f"{accuracy:.1%}, {below or 'the most accurate candidate'}; allowed {100 * max_drop:.2f}",
        shortfall=drop - max_drop,
    )


def _score(cell: RecordedCell, champion: RecordedCell | None) -> Gate:
    own = cell.metrics[SCORE]
    if champion is None:
        return Gate(name="score", passed=True, reason=f"{own:.1f} dB, the best of the feasible")
    more = own - champion.metrics[SCORE]
    reason = f"{own:.2f} dB against {champion.metrics[SCORE]:.2f} dB, {more:+.2f} dB"
    return Gate(name="score", passed=more > 0, reason=reason, shortfall=-more)


def _accuracy(
    cell: RecordedCell, champion: RecordedCell | None, *, predictions_of: PredictionsOf, margin: float
) -> Gate:
    if champion is None:
        return Gate(name="accuracy", passed=True, reason=f"{cell.accuracy:.1%}, compared with no champion")
    try:
        own = predictions_of(cell)
    except StoreError as error:
        # The other candidates are still assessed.
        return Gate(name="accuracy", passed=False, reason=f"unknown, as {error}", shortfall=math.inf)
    return accuracy(own, predictions_of(champion), margin=margin)


def _nearest_first(failed: Sequence[Assessment]) -> tuple[Assessment, ...]:
    return tuple(sorted(failed, key=lambda one: one.miss))
