"""Which finished cell becomes a dataset's champion. This module reads no store.

A cell passes five gates in this order and stops at the first that it fails: its technique had an effect (true of every
finished cell, as a cell without one fails), its accuracy is significantly above that of always answering the most
frequent class, it keeps the budgets of its score profile, its score is better than the champion's, and its accuracy is
not significantly worse than the champion's by more than a margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from pipelines.champion.comparability import check_champion
from pipelines.results import statistics
from pipelines.results.metrics import (
    ACCURACY,
    COMPRESSED_BYTES,
    MAJORITY_P_VALUE,
    MAJORITY_SHARE,
    SCORE,
    TEST_MS,
    TRAIN_S,
)
from pipelines.results.score import BUDGETS
from pipelines.system.errors import StoreError

if TYPE_CHECKING:
    from pipelines.results.recorded import RecordedCell

Name = Literal["effect", "learnt", "feasible", "score", "accuracy"]
# A cell that fails at a later gate is a nearer miss.
ORDER: tuple[Name, ...] = ("effect", "learnt", "feasible", "score", "accuracy")


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """An exported model's predictions on the test images: class numbers (n,), of which `correct` are right."""

    predicted: npt.NDArray[np.int64]
    correct: int


PredictionsOf = Callable[["RecordedCell"], Predictions]


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
    """

    winner: Assessment | None
    misses: tuple[Assessment, ...]
    champion: RecordedCell | None
    stands: bool


def decide(
    cells: Sequence[RecordedCell],
    champion: RecordedCell | None,
    *,
    predictions_of: PredictionsOf,
    margin: float,
) -> Decision:
    """Assess all candidates by falling score; the first one that passes wins.

    cells: at least one, comparable with each other (`comparability.check_comparable`) and with the champion
    (`training_time.comparable`). A cell with the champion's fingerprint is a re-measured champion: it replaces the
    champion in the comparison and does not compete with it. predictions_of: reads a cell's predictions from the store;
    called only for the last gate. margin: fraction by which accuracy may be lower. Raises ValueError if champion and
    candidates cannot be compared.
    """
    remeasured = [cell for cell in cells if champion is not None and cell.fingerprint == champion.fingerprint]
    if remeasured:
        champion = max(remeasured, key=lambda cell: cell.started)
    failed: list[Assessment] = []
    for cell in sorted((cell for cell in cells if cell not in remeasured), key=lambda cell: -cell.metrics[SCORE]):
        if champion is not None and _eligible(cell):
            check_champion(champion, cell)
        one = assess(cell, champion, predictions_of=predictions_of, margin=margin)
        if one.passed:
            return Decision(winner=one, misses=_nearest_first(failed), champion=champion, stands=False)
        failed.append(one)
    ineligible = [cell for cell in remeasured if not _eligible(cell)]
    failed += [assess(cell, champion, predictions_of=predictions_of, margin=margin) for cell in ineligible]
    stands = len(remeasured) > len(ineligible)
    return Decision(winner=None, misses=_nearest_first(failed), champion=champion, stands=stands)


def assess(
    cell: RecordedCell, champion: RecordedCell | None, *, predictions_of: PredictionsOf, margin: float
) -> Assessment:
    """Take one cell through the gates, up to the first that it fails."""
    steps: tuple[Callable[[], Gate], ...] = (
        lambda: Gate(name="effect", passed=True, reason="its technique had one, else its run would have failed"),
        lambda: _learnt(cell),
        lambda: _feasible(cell),
        lambda: _score(cell, champion),
        # It costs a download.
        lambda: _accuracy(cell, champion, predictions_of=predictions_of, margin=margin),
    )
    gates: list[Gate] = []
    for step in steps:
        gates.append(step())
        if not gates[-1].passed:
            break
    return Assessment(cell=cell, gates=tuple(gates))


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
        f"{own.correct / images:.2%} against {champion.correct / images:.2%}, 95% interval of the difference "
        f"{100 * low:+.2f} to {100 * high:+.2f} points ({differing} of {images} predictions differ), allowed "
        f"{-100 * margin:+.2f}"
    )
    return Gate(name="accuracy", passed=high >= -margin, reason=reason, shortfall=-margin - high)


def _eligible(cell: RecordedCell) -> bool:
    """Whether it passes the gates that depend on nothing but the cell."""
    return _learnt(cell).passed and _feasible(cell).passed


def _learnt(cell: RecordedCell) -> Gate:
    p_value, share = (cell.metrics.get(name) for name in (MAJORITY_P_VALUE, MAJORITY_SHARE))
    accuracy = f"{cell.metrics[ACCURACY]:.2%}"
    if p_value is None or share is None:
        reason = "not tested, as the cell is older than this test: resume=false runs it again"
        return Gate(name="learnt", passed=True, reason=reason)
    if cell.uninformed is None:
        reason = f"{accuracy}, better than always answering {cell.majority!r} ({share:.1%} of the test images)"
        return Gate(name="learnt", passed=True, reason=reason)
    reason = f"{accuracy}, {cell.uninformed}"
    return Gate(name="learnt", passed=False, reason=reason, shortfall=p_value)


def _feasible(cell: RecordedCell) -> Gate:
    budgets = _budgets(cell)
    excess = {name: ratio for name, ratio in budgets.items() if ratio > 1}
    if cell.feasible == "True":
        kept = ", ".join(f"score.{name}={cell.params[f'score.{name}']}" for name in budgets)
        return Gate(name="feasible", passed=True, reason=f"within {kept}" if kept else "its profile sets no budgets")
    reason = ", ".join(
        f"score.{name} missed by a factor of {ratio:.3g}"
        if ratio < math.inf
        else f"score.{name} cannot be checked, as the training time is unknown"
        for name, ratio in excess.items()
    )
    return Gate(name="feasible", passed=False, reason=reason, shortfall=max(excess.values(), default=1.0))


def _budgets(cell: RecordedCell) -> dict[str, float]:
    """The used fraction of each budget that is set; above 1 the budget is broken. Infinite for an unknown time."""
    used = {
        "max_size_mb": cell.metrics[COMPRESSED_BYTES] / 1e6,
        "max_test_ms": cell.metrics[TEST_MS],
        "max_train_s": cell.metrics.get(TRAIN_S, math.inf),
    }
    given = {name: cell.params.get(f"score.{name}", "None") for name in BUDGETS}
    ratios = {name: used[name] / float(given[name]) for name in used if given[name] != "None"}
    if given["min_accuracy"] != "None":
        ratios["min_accuracy"] = float(given["min_accuracy"]) / max(cell.metrics[ACCURACY], 1e-9)
    return ratios


def _score(cell: RecordedCell, champion: RecordedCell | None) -> Gate:
    own = cell.metrics[SCORE]
    if champion is None:
        return Gate(name="score", passed=True, reason=f"{own:.2f} dB, the best of the feasible")
    more = own - champion.metrics[SCORE]
    reason = f"{own:.2f} dB against {champion.metrics[SCORE]:.2f} dB, {more:+.2f} dB"
    return Gate(name="score", passed=more > 0, reason=reason, shortfall=-more)


def _accuracy(
    cell: RecordedCell, champion: RecordedCell | None, *, predictions_of: PredictionsOf, margin: float
) -> Gate:
    try:
        own = predictions_of(cell)
    except StoreError as error:
        # The other candidates are still assessed.
        return Gate(name="accuracy", passed=False, reason=f"unknown, as {error}", shortfall=math.inf)
    if champion is not None:
        return accuracy(own, predictions_of(champion), margin=margin)
    reason = f"{own.correct / len(own.predicted):.2%}, and no champion to compare with"
    return Gate(name="accuracy", passed=True, reason=reason)


def _nearest_first(failed: Sequence[Assessment]) -> tuple[Assessment, ...]:
    return tuple(sorted(failed, key=lambda one: one.miss))
