"""Which finished cell becomes a dataset's champion. This module reads no store.

A cell passes five gates in this order and stops at the first that it fails: it has learnt something
(`verdict.no_better_than_majority`), it keeps the budgets and goals of its score profile, it gives up no more accuracy
than allowed below the most accurate of the candidates and the champion, its score is better than the champion's by more
than a tie, unless the champion fails one of these itself, and its accuracy is not significantly worse than the
champion's by more than a margin. That its technique had an effect is true of every finished cell, as one without fails.

Seeds of a cell are taken together, as in the report: their mean score and accuracy count, and every seed must have
learnt and keep the budgets. The seed with the best score is promoted, of those that themselves give up no more accuracy
than allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipelines.champion.comparability import check_champion
from pipelines.comparison import ranking, training_time
from pipelines.comparison.budgets import used_budgets
from pipelines.comparison.entries import Entry, entries_of
from pipelines.comparison.shortlist import most_accurate, within
from pipelines.results import statistics
from pipelines.results.columns import percent
from pipelines.results.metrics import (
    SCORE,
    majority_of,
)
from pipelines.results.promotion import ANEW
from pipelines.results.recorded_cell import RecordedCell, RightOf
from pipelines.results.score import GOALS, apart_from
from pipelines.system.errors import StoreError

Name = Literal["learnt", "feasible", "drop", "score", "accuracy"]
# A cell that fails at a later gate is a nearer miss.
ORDER: tuple[Name, ...] = ("learnt", "feasible", "drop", "score", "accuracy")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Fractions of accuracy that may be given up.

    max_drop: below the most accurate of candidates and champion, by the measured accuracies. margin: below the
    champion, where the drop counts only if its whole 95% interval is beyond.
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
    """A cell with the gates that it reached; only the last one may have failed.

    cell: the seed that would be promoted. entry: all its seeds. judged: the seed that the last gate was about.
    """

    cell: RecordedCell
    entry: Entry
    gates: tuple[Gate, ...]
    judged: RecordedCell

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
    most_accurate: of the candidates and the champion, those that have learnt something, if any.
    """

    winner: Assessment | None
    misses: tuple[Assessment, ...]
    champion: RecordedCell | None
    stands: bool
    most_accurate: Entry | None


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What candidates are compared with.

    entry: all its seeds. fails: the gate that it fails now. train_spread: as that of a comparison.
    """

    cell: RecordedCell
    entry: Entry
    fails: Name | None
    train_spread: float


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Takes cells through the gates.

    champion, most_accurate: what they are compared with. right_of: called only for the last gate.
    """

    champion: Champion | None
    most_accurate: Entry | None
    limits: Limits
    right_of: RightOf
    # What the most accurate cell is called.
    rival: str = "the most accurate cell"

    def assess(self, entry: Entry) -> Assessment:
        """Take a cell through the gates, up to the first that it fails."""
        cell = max(entry.runs, key=lambda run: (self._keeps_accuracy(run), run.metrics[SCORE]))
        standing = self.standing(entry, cell)
        if not standing.gates[-1].passed:
            return standing
        gates = [*standing.gates, _score(entry, self.champion)]
        if gates[-1].passed:
            # It costs a download.
            champion = self.champion.cell if self.champion else None
            gates.append(_accuracy(cell, champion, right_of=self.right_of, margin=self.limits.margin))
        return replace(standing, gates=tuple(gates), judged=cell)

    def _keeps_accuracy(self, run: RecordedCell) -> bool:
        top = self.most_accurate
        return top is None or within(self.limits.max_drop, top.accuracy.value - run.accuracy)

    def standing(self, entry: Entry, cell: RecordedCell) -> Assessment:
        """The gates that the champion has to pass too, of which only the last may have failed. cell: of the entry."""
        learnt = next((run for run in entry.runs if run.uninformed), cell)
        feasible = next((run for run in entry.runs if not run.feasible), cell)
        steps: tuple[tuple[RecordedCell, Callable[[], Gate]], ...] = (
            (learnt, lambda: _learnt(learnt)),
            (feasible, lambda: _feasible(feasible)),
            (cell, lambda: _drop(entry, self.most_accurate, self.limits.max_drop, self.rival)),
        )
        gates: list[Gate] = []
        judged: list[RecordedCell] = []
        for run, step in steps:
            gates.append(step())
            judged.append(run)
            if not gates[-1].passed:
                break
        return Assessment(cell=cell, entry=entry, gates=tuple(gates), judged=judged[-1])


def decide(
    cells: Sequence[RecordedCell],
    champion: RecordedCell | None,
    *,
    remeasured: Collection[str] = (),
    right_of: RightOf,
    limits: Limits,
) -> Decision:
    """Assess all candidates by falling score; the first one that passes wins.

    cells: at least one, comparable with each other (`comparability.check_comparable`) and with the champion
    (`training_time.comparable`). remeasured: the run ids of those that are the champion's exported model: the newest
    replaces the champion in the comparison, and it and its other seeds do not compete. A champion that would not pass
    as a candidate any more does not stand, and its score is no bar. It stands only where its cell is among the
    candidates, perhaps trained again. right_of: reads from the store which images a cell gets right; called only for
    the last gate. Raises ValueError if champion and candidates cannot be compared.
    """
    entries = sorted(entries_of(cells), key=lambda entry: -entry.score.value)
    again = [cell for cell in cells if cell.run_id in remeasured]
    own, failed = None, []
    if champion is not None:
        champion = max(again, key=lambda cell: cell.started, default=champion)
        (own,) = [one for one in entries if _holds(one, champion)] or entries_of([champion])
    # What is chosen to compete must not decide what the champion is worth.
    informed = [entry for entry in (*entries, *filter(None, [own])) if not entry.uninformed]
    best = most_accurate(informed) if informed else None
    rival = f"the champion of run {champion.run_id[:8]}" if champion and best is own else Judge.rival
    judge = Judge(champion=None, most_accurate=best, limits=limits, right_of=right_of, rival=rival)
    if champion is not None and own is not None:
        for entry in entries:
            if entry is not own and entry.eligible:
                check_champion(champion, entry.runs[0])
        standing = judge.standing(own, champion)
        fails = None if standing.gates[-1].passed else standing.gates[-1].name
        failed = [standing] if fails and again else []
        spread = training_time.spread([entry.runs for entry in entries])
        judge = replace(judge, champion=Champion(cell=champion, entry=own, fails=fails, train_spread=spread))
    winner = None
    for entry in entries:
        if entry is own:
            continue
        one = judge.assess(entry)
        if one.passed:
            winner = one
            break
        failed.append(one)
    return Decision(
        winner=winner,
        misses=tuple(sorted(failed, key=lambda one: one.miss)),
        champion=champion,
        stands=winner is None and _is_among(champion, cells) and not (judge.champion and judge.champion.fails),
        most_accurate=best,
    )


def _is_among(champion: RecordedCell | None, cells: Sequence[RecordedCell]) -> bool:
    return champion is not None and any(cell.fingerprint == champion.fingerprint for cell in cells)


def _holds(entry: Entry, cell: RecordedCell) -> bool:
    return any(run.run_id == cell.run_id for run in entry.runs)


def accuracy(own: npt.NDArray[np.bool_], champion: npt.NDArray[np.bool_], *, margin: float) -> Gate:
    """Fails if the whole 95% interval of the paired difference is below -margin.

    own, champion: which images each gets right, the same ones in the same order (`statistics.paired_difference`).
    """
    images, right, its = len(own), int(own.sum()), int(champion.sum())
    discordant, difference = int((own != champion).sum()), right - its
    low, high = statistics.paired_difference(difference, discordant, images)
    reason = (
        f"{percent(right / images)} against {percent(its / images)}, 95% interval of the difference "
        f"{100 * low:+.2f} to {100 * high:+.2f} points (one alone is right on {discordant} of {images} "
        f"images), allowed {-100 * margin:+.2f}"
    )
    return Gate(name="accuracy", passed=high >= -margin, reason=reason, shortfall=-margin - high)


def _learnt(cell: RecordedCell) -> Gate:
    found, accuracy = majority_of(cell.metrics, cell.majority), percent(cell.accuracy)
    if found is None:
        reason = "not tested, as its run has no test of it: resume=false runs it again"
        return Gate(name="learnt", passed=True, reason=reason)
    if cell.uninformed is not None:
        return Gate(name="learnt", passed=False, reason=f"{accuracy}, {cell.uninformed}", shortfall=found.p_value)
    if found.p_value < statistics.SIGNIFICANCE:
        reason = f"better than always answering {found.answer!r} ({found.share:.1%} of the test images)"
    else:
        reason = f"and its answers agree with the classes beyond chance (p = {found.agreement_p_value:.2g})"
    return Gate(name="learnt", passed=True, reason=f"{accuracy}, {reason}")


def _feasible(cell: RecordedCell) -> Gate:
    budgets = used_budgets(cell)
    excess = {name: ratio for name, ratio in budgets.items() if ratio > 1}
    if cell.feasible:
        kept = ", ".join(f"score.{name}={cell.params[f'score.{name}']}" for name in budgets)
        return Gate(name="feasible", passed=True, reason=f"within {kept}" if kept else "its profile sets no budgets")
    reason = ", ".join(
        f"score.{name} missed by a factor of {apart_from(ratio, 1)}"
        if ratio < math.inf
        else f"score.{name} missed"
        if name in GOALS
        else f"score.{name} cannot be checked, as the training time is unknown"
        for name, ratio in excess.items()
    )
    return Gate(name="feasible", passed=False, reason=reason, shortfall=max(excess.values(), default=1.0))


def _drop(entry: Entry, top: Entry | None, max_drop: float, rival: str) -> Gate:
    drop = top.accuracy.value - entry.accuracy.value if top else 0.0
    seeds = f" over {len(top.runs)} seeds" if top and len(top.runs) > 1 else ""
    below = (
        f"{apart_from(100 * drop, 100 * max_drop, '.2f')} points below {top.label}, {rival}{seeds}"
        if top and drop > 0
        else ""
    )
    return Gate(
        name="drop",
        passed=within(max_drop, drop),
        reason=f"{percent(entry.accuracy.value)}, {below or 'the most accurate cell'}; allowed {100 * max_drop:.2f}",
        shortfall=drop - max_drop,
    )


def _score(entry: Entry, champion: Champion | None) -> Gate:
    own, seeds = entry.score.value, f" over {len(entry.runs)} seeds" if len(entry.runs) > 1 else ""
    if champion is None:
        return Gate(name="score", passed=True, reason=f"{own:.1f} dB{seeds}, the best that passes the gates above")
    bar = champion.entry.score.value
    if champion.fails:
        no_bar = f"the champion's {bar:.1f} dB is no bar, as it fails the gate {champion.fails} now"
        return Gate(name="score", passed=True, reason=f"{own:.1f} dB{seeds}; {no_bar}")
    more = own - bar
    better = ranking.leads(entry, champion.entry, champion.train_spread)
    tie = ": a tie, as such a lead may be chance" if more > 0 and not better else ""
    if tie and 2 in (len(entry.runs), len(champion.entry.runs)):
        tie += "; two seeds leave a wide interval, so run a third"
    reason = f"{own:.2f} dB{seeds} against {bar:.2f} dB, {more:+.2f} dB{tie}"
    return Gate(name="score", passed=better, reason=reason, shortfall=-more)


def _accuracy(cell: RecordedCell, champion: RecordedCell | None, *, right_of: RightOf, margin: float) -> Gate:
    if champion is None:
        return Gate(name="accuracy", passed=True, reason=f"{percent(cell.accuracy)}, compared with no champion")
    try:
        own = right_of(cell)
    except StoreError as error:
        # The other candidates are still assessed.
        return Gate(name="accuracy", passed=False, reason=f"unknown, as {error}", shortfall=math.inf)
    try:
        its = right_of(champion)
    except StoreError as error:
        raise StoreError(
            f"the champion's answers are lost ({error}), so that no candidate can be compared with it: bring them "
            f"back, or {ANEW}"
        ) from error
    return accuracy(own, its, margin=margin)
