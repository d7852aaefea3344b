"""A cell compared with its baseline, as better, tied or worse, and with one constant answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.results import agreement
from pipelines.results.cell_result import Majority, Verdict
from pipelines.results.score import TRAIN_FLOOR_S
from pipelines.results.statistics import SIGNIFICANCE, Z, mcnemar

TOLERANCE = 0.01
# Standard deviation of the log time of one training that is repeated (benchmarks/repeats.py; docs/reference/verdicts.md
# has the measurement).
TRAIN_SPREAD = 0.12


def majority(
    predicted: npt.NDArray[np.integer[Any]], labels: npt.NDArray[np.integer[Any]], class_names: Sequence[str]
) -> Majority:
    """The answers to n >= 1 test images against always the most frequent class; of equal ones, the first.

    predicted, labels: class numbers (n,).
    Raises ValueError if the two are not of the same shape.
    """
    if predicted.shape != labels.shape:
        raise ValueError(f"answers and labels must be equally many, got {predicted.shape} and {labels.shape}")
    frequent = int(np.bincount(labels, minlength=len(class_names)).argmax())
    constant = labels == frequent
    return Majority(
        answer=class_names[frequent],
        share=float(np.mean(constant)),
        p_value=mcnemar(predicted == labels, constant, "greater"),
        agreement_p_value=agreement.p_value(agreement.confusion_matrix(predicted, labels, len(class_names))),
        worse_p_value=mcnemar(constant, predicted == labels, "greater"),
    )


def no_better_than_majority(found: Majority | None) -> str | None:
    """The finding in words where a cell has learnt nothing that counts, else None.

    It has learnt if its accuracy is significantly above the constant answer's at 5%, or if its answers agree with the
    labels beyond chance and its accuracy is not significantly below the constant answer's. found: None where nothing is
    known, of which there is no finding.
    """
    if found is None or found.p_value < SIGNIFICANCE or _tells_classes_apart(found):
        return None
    agrees = _is_small(found.agreement_p_value)
    return f"{'less often right' if agrees else 'no better'} than always {_constant(found)}"


def caution(found: Majority) -> str | None:
    """What to know of a cell that has learnt, and is no more often right than the constant answer; else None."""
    if found.p_value < SIGNIFICANCE or not _tells_classes_apart(found):
        return None
    return (
        f"Its accuracy is no better than always {_constant(found)}, but its answers tell the classes apart: "
        "the recall and precision of each class say what it is worth."
    )


def _tells_classes_apart(found: Majority) -> bool:
    """Whether the answers agree with the labels beyond chance, and are not significantly less often right."""
    return _is_small(found.agreement_p_value) and not _is_small(found.worse_p_value)


def _is_small(p_value: float | None) -> bool:
    return p_value is not None and p_value < SIGNIFICANCE


def _constant(found: Majority) -> str:
    answer = f"answering {found.answer!r}" if found.answer else "giving one answer"
    return f"{answer} ({found.share:.1%} of the test images)"


def accuracy_verdict(difference: float, p_value: float) -> Verdict:
    """The verdict on own accuracy minus the baseline's: tied unless the paired test is significant at 5%."""
    if p_value >= SIGNIFICANCE:
        return "tied"
    return "better" if difference > 0 else "worse"


def time_verdict(ratio_low: float, ratio_high: float) -> Verdict:
    """The verdict on the interval of own time over the baseline's: tied where it reaches within 1% of 1.

    A smaller difference is no reason to change a model, and a model's place in memory changes latency by more.
    """
    if ratio_high < 1 - TOLERANCE:
        return "better"
    return "worse" if ratio_low > 1 + TOLERANCE else "tied"


def training_ratio(shared_s: float, total_s: float, baseline_s: float) -> tuple[float, float, float]:
    """All training that led to a cell over that of its baseline, with a 95% interval, from one run of each.

    shared_s: the part that it continues; total_s: with all that came after; baseline_s: the baseline's.
    A single training has no spread of its own: repeated trainings are taken to scatter by TRAIN_SPREAD, and the ratio
    of two by sqrt(2) times that. A cell that continues its baseline's training shares that time, which then cancels:
    without training of its own, its ratio is 1 for certain.
    """
    baseline_s = max(TRAIN_FLOOR_S, baseline_s)
    factor = math.exp(Z * math.sqrt(2) * TRAIN_SPREAD)
    ratio = max(TRAIN_FLOOR_S, total_s) / baseline_s
    if math.isclose(shared_s, baseline_s, rel_tol=1e-6):
        added = (total_s - shared_s) / baseline_s
        return ratio, 1 + added / factor, 1 + added * factor
    return ratio, ratio / factor, ratio * factor


def both_times(
    test: tuple[float, float], train: tuple[float, float] | None, *, test_weight: float, train_weight: float
) -> tuple[float, float]:
    """The interval of testing and training time together, over the baseline's: their weighted geometric mean.

    test, train: intervals of the two ratios; None for an unknown training time, which leaves testing alone. The
    weights are the score's exponents; where both are 0, the two count alike. Both lower bounds together are less
    likely than each, so the interval is rather too wide.
    """
    if train is None:
        return test
    weights = np.array([test_weight, train_weight]) if test_weight or train_weight else np.ones(2)
    low, high = np.exp(weights / weights.sum() @ np.log([test, train]))
    return float(low), float(high)


def size_verdict(ratio: float) -> Verdict:
    """The verdict on own compressed bytes over the baseline's: tied within 1%, as compression varies with weights."""
    # Computed from bytes, 0.99 may come out as 0.9900000000000001.
    if abs(ratio - 1) <= TOLERANCE + 1e-9:
        return "tied"
    return "better" if ratio < 1 else "worse"
