"""The findings of a comparison, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipelines.comparison import acceleration, training_time
from pipelines.comparison.baselines import baselines_of
from pipelines.comparison.entries import Entry, notes_of
from pipelines.comparison.groups import training_note
from pipelines.comparison.ranking import Comparison
from pipelines.results import columns
from pipelines.results.metrics import ACCURACY_DIFFERENCE
from pipelines.results.recorded_cell import RecordedCell
from pipelines.results.score import apart_from
from pipelines.system.words import number_of, some

# So many cells are named in a sentence on ties, and in sentences on those that learnt nothing.
MAX_TIED, MAX_UNINFORMED = 20, 5
# Of accuracy, by which a baseline that was trained again differs.
NOTICEABLE = 1e-6
NONE_IN_BUDGET = "No cell keeps the budgets of its score profile."


def leader(comparison: Comparison) -> str:
    """Which cell has the highest score of those that may be the fittest, or why none may."""
    winner, entries = comparison.winner, comparison.entries
    if winner is None:
        if not any(entry.feasible for entry in entries):
            return NONE_IN_BUDGET
        if all(entry.uninformed for entry in entries):
            return "No cell has learnt enough to be the fittest."
        return "No cell that has learnt enough to be the fittest keeps the budgets of its score profile."
    score = columns.SCORE.text(winner.score.value)
    excluded = any(entry.score.value > winner.score.value for entry in entries if not entry.eligible)
    among = " of the cells that keep their budgets and have learnt something" if excluded else ""
    return f"{winner.label} has the highest score{among}, {score} dB."


def notes(comparison: Comparison) -> list[str]:
    """The findings of a comparison, a sentence each."""
    winner = comparison.winner
    nothing_learnt = [entry for entry in comparison.entries if entry.uninformed]
    uninformed = [f"{entry.label} is {entry.uninformed}." for entry in nothing_learnt[:MAX_UNINFORMED]]
    if more := nothing_learnt[MAX_UNINFORMED:]:
        uninformed.append(f"{number_of(len(more), 'more cell')} learnt nothing either, as the table says.")
    left_out = training_time.note([run for entry in comparison.entries for run in entry.runs])
    leading, slow = leader(comparison), acceleration.notes(comparison.entries)
    found = [leading, *uninformed, *([left_out] if left_out else []), *slow]
    if winner is None:
        return found
    tied = sorted(comparison.tied - {winner.label})
    if tied:
        found.append(f"Tied with it, as their scores do not differ significantly: {some(tied, MAX_TIED)}.")
    changing = [flip for flip in comparison.weight_flips if not math.isnan(flip.after)]
    for flip in changing:
        side, after = "above" if flip.after > flip.before else "below", apart_from(flip.after, flip.before, ".3g")
        found.append(
            f"With score.{flip.criterion} {side} {after} instead of {flip.before:g}, {flip.winner} would lead."
        )
    if not changing and len(comparison.entries) > 1:
        found.append("No change of one exponent alone would let another cell lead.")
    found += [*notes_of(comparison.entries), *filter(None, [_older(comparison.entries)])]
    trained = training_note([run for entry in comparison.entries for run in entry.runs])
    if trained:
        found.append(f"The cells were {trained}.")
    if any(len(entry.runs) == 2 for entry in comparison.entries):
        found.append(
            "Two seeds give a single difference, so intervals over them are very wide: run three or more, for example "
            "seed=0,1,2."
        )
    return found


def _older(entries: Sequence[Entry]) -> str | None:
    """A sentence if cells were compared with a run of their baseline that differs from the newest; else None."""
    runs = [run for entry in entries for run in entry.runs]
    bases = baselines_of(runs, runs)
    older = [
        entry.label
        for entry in entries
        if any(_moved(run, bases[run.run_id]) for run in entry.runs if run.run_id in bases)
    ]
    if not older:
        return None
    return (
        f"The baseline of {some(older)} was run again later and has another accuracy now: their changes, gains and "
        "goals are those to the former run, until they are run again with resume=false."
    )


def _moved(run: RecordedCell, base: RecordedCell) -> bool:
    change = run.metrics.get(ACCURACY_DIFFERENCE)
    return base.started > run.started and change is not None and abs(run.accuracy - change - base.accuracy) > NOTICEABLE
