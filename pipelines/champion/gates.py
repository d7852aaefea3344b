"""Which finished cell becomes a dataset's champion. Pure: what lies in the store is handed in.

A cell passes five gates in this order, and stops at the first that it fails: its technique had an effect (every
finished cell's had, as others fail), it is right significantly more often than always giving the most frequent class,
it keeps its score profile's budgets, its score is better than the champion's, and its accuracy is not significantly
worse than the champion's by more than a margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
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
# A miss at a later gate is a nearer one.
ORDER: tuple[Name, ...] = ("effect", "learnt", "feasible", "score", "accuracy")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """An exported model's answers to the test images: `predicted`, class numbers (n,), of which `correct` are right."""

    predicted: npt.NDArray[np.int64]
    correct: int


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What one gate said. reason: with its numbers. shortfall: how far from passing, comparable within a gate."""

    name: Name
    passed: bool
    reason: str
    shortfall: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A cell with the gates that it came to; only the last may have failed."""

    cell: RecordedCell
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether it may become champion."""
        return self.gates[-1].passed and len(self.gates) == len(ORDER)

    @property
    def miss(self) -> tuple[int, float]:
        """Sorts those that failed, the nearest miss first."""
        return -len(self.gates), self.gates[-1].shortfall


@dataclass(frozen=True, kw_only=True)
class Decision:
    """winner: None where nobody passed. misses: those that failed, the nearest first. champion: what they were compared
    with; None where there is none yet. stands: the champion is itself a candidate, so that it has won again."""

    winner: Judged | None
    misses: tuple[Judged, ...]
    champion: RecordedCell | None
    stands: bool


def decide(
    cells: Sequence[RecordedCell],
    champion: RecordedCell | None,
    *,
    answers: Callable[[RecordedCell], Answers],
    margin: float,
) -> Decision:
    """Judge all candidates, by falling score; the first that passes wins.

    cells: at least one, comparable with each other (`comparability.check_comparable`). A cell of the champion's
    fingerprint is the champion measured again: it is no rival of itself, and stands in for it, as it was measured like
    the candidates. answers: reads a cell's answers from the store, where it comes to the last gate. margin: fraction by
    which accuracy may be lower. Raises ValueError where champion and candidates do not compare.
    """
    again = [cell for cell in cells if champion is not None and cell.fingerprint == champion.fingerprint]
    rivals = sorted((cell for cell in cells if cell not in again), key=lambda cell: -cell.metrics[SCORE])
    if again:
        champion = max(again, key=lambda cell: cell.started)
    judged: list[Judged] = []
    for cell in rivals:
        if champion is not None and _eligible(cell):
            check_champion(champion, cell)
        one = judge(cell, champion, answers=answers, margin=margin)
        if one.passed:
            return Decision(winner=one, misses=_nearest(judged), champion=champion, stands=False)
        judged.append(one)
    broken = [cell for cell in again if not _eligible(cell)]
    judged += [judge(cell, champion, answers=answers, margin=margin) for cell in broken]
    return Decision(winner=None, misses=_nearest(judged), champion=champion, stands=len(again) > len(broken))


def judge(
    cell: RecordedCell,
    champion: RecordedCell | None,
    *,
    answers: Callable[[RecordedCell], Answers],
    margin: float,
) -> Judged:
    """Take one cell through the gates as far as it gets."""
    met = []
    for gate in _gates(cell, champion, answers=answers, margin=margin):
        met.append(gate)
        if not gate.passed:
            break
    return Judged(cell=cell, gates=tuple(met))


def accuracy(own: Answers, champion: Answers, *, margin: float) -> Gate:
    """Failed where the whole 95% interval of the paired difference lies below -margin.

    Both answered the same images, in the same order. The number of right answers of each is known; that exactly one is
    right can only be where they differ, which bounds the interval (`statistics.paired_difference`).
    """
    images = len(own.predicted)
    differing = int(np.sum(own.predicted != champion.predicted))
    difference = own.correct - champion.correct
    low, high = statistics.paired_difference(difference, differing, images)
    reason = (
        f"{own.correct / images:.2%} against {champion.correct / images:.2%}, 95% interval of the difference "
        f"{100 * low:+.2f} to {100 * high:+.2f} points ({differing} of {images} answers differ), allowed "
        f"{-100 * margin:+.2f}"
    )
    return Gate(name="accuracy", passed=high >= -margin, reason=reason, shortfall=-margin - high)


def _gates(
    cell: RecordedCell,
    champion: RecordedCell | None,
    *,
    answers: Callable[[RecordedCell], Answers],
    margin: float,
) -> Iterator[Gate]:
    """What each gate says, the last of which costs a download."""
    yield Gate(name="effect", passed=True, reason="its technique had one, else its run would have failed")
    yield _learnt(cell)
    yield _feasible(cell)
    yield _score(cell, champion)
    yield _accuracy(cell, champion, answers=answers, margin=margin)


def _eligible(cell: RecordedCell) -> bool:
    """Whether it passes the gates that look at nothing but the cell."""
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
    excess = {name: ratio for name, ratio in _budgets(cell).items() if ratio > 1}
    if cell.feasible == "True":
        kept = ", ".join(f"score.{name}={cell.params[f'score.{name}']}" for name in _budgets(cell))
        return Gate(name="feasible", passed=True, reason=f"within {kept}" if kept else "its profile sets no budgets")
    reason = ", ".join(f"score.{name} missed by a factor of {ratio:.3g}" for name, ratio in excess.items())
    return Gate(name="feasible", passed=False, reason=reason, shortfall=max(excess.values(), default=1.0))


def _budgets(cell: RecordedCell) -> dict[str, float]:
    """For each budget that is set, how much of it is used; above 1 it is broken."""
    used = {
        "max_size_mb": cell.metrics[COMPRESSED_BYTES] / 1e6,
        "max_test_ms": cell.metrics[TEST_MS],
        "max_train_s": cell.metrics[TRAIN_S],
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
    cell: RecordedCell,
    champion: RecordedCell | None,
    *,
    answers: Callable[[RecordedCell], Answers],
    margin: float,
) -> Gate:
    try:
        own = answers(cell)
    except StoreError as error:
        # One cell's lost files are no reason to promote nobody.
        return Gate(name="accuracy", passed=False, reason=f"cannot be told, as {error}", shortfall=math.inf)
    if champion is not None:
        return accuracy(own, answers(champion), margin=margin)
    reason = f"{own.correct / len(own.predicted):.2%}, and no champion to compare with"
    return Gate(name="accuracy", passed=True, reason=reason)


def _nearest(judged: Sequence[Judged]) -> tuple[Judged, ...]:
    return tuple(sorted(judged, key=lambda one: one.miss))
