"""What follows from a comparison, in sentences."""

from __future__ import annotations

import math

from pipelines.comparison.entries import Comparison

NONE_IN_BUDGET = "No cell keeps the budgets of its score profile."


def notes(comparison: Comparison) -> list[str]:
    """What follows from a comparison, a sentence each."""
    winner = comparison.winner
    uninformed = [f"{entry.label} is {entry.uninformed}." for entry in comparison.entries if entry.uninformed]
    if winner is None:
        kept = any(entry.feasible for entry in comparison.entries)
        reason = "No cell has learnt enough to be the fittest." if kept else NONE_IN_BUDGET
        return [reason, *uninformed]
    said = [f"Fittest: {winner.label}, {winner.score.value:.2f} dB.", *uninformed]
    others = sorted(comparison.tied - {winner.label})
    if others:
        said.append(f"Its score cannot be told from that of {', '.join(others)}.")
    changing = [move for move in comparison.weight_flips if not math.isnan(move.after)]
    for move in changing:
        said.append(
            f"With score.{move.criterion} {'above' if move.after > move.before else 'below'} {move.after:.3g} instead "
            f"of {move.before:g}, {move.winner} would lead."
        )
    if not changing and len(comparison.entries) > 1:
        said.append("No change of one exponent alone would let another cell lead.")
    if len(comparison.hardware) > 1:
        said.append(
            f"Times are from {len(comparison.hardware)} machines and do not compare across them "
            f"({'; '.join(comparison.hardware)}): choose one with filter=\"tags.hardware = '...'\"."
        )
    mixed = [entry.label for entry in comparison.entries if entry.mixed]
    if mixed:
        said.append(f"Seeds of {', '.join(mixed)} were timed on different machines, so their times are not averaged.")
    tests = {(run.digest, run.test_images) for entry in comparison.entries for run in entry.runs}
    if len(tests) > 1:
        counts = ", ".join(f"{images:,}" for images in sorted({images for _, images in tests}))
        said.append(
            f"The cells were tested on {len(tests)} different sets of images ({counts} images), between which "
            "accuracies and scores do not compare: choose one with "
            f"filter=\"dataset.digest = '{max(tests, key=lambda one: one[1])[0]}'\" or the like."
        )
    if any(len(entry.runs) == 2 for entry in comparison.entries):
        said.append(
            "Two seeds have one difference between them, so that intervals over them are very wide: three or more "
            "narrow them, seed=0,1,2 for example."
        )
    infeasible = sum(not entry.feasible for entry in comparison.entries)
    if infeasible:
        said.append(f"{infeasible} cells break a budget of their score profile and cannot be the fittest.")
    return said
