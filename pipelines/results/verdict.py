"""A cell compared with its baseline, as better, tied or worse, and with one constant answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.results.records import Majority, Verdict
from pipelines.results.statistics import SIGNIFICANCE, mcnemar

TOLERANCE = 0.01


def majority(
    predicted: npt.NDArray[np.integer[Any]], labels: npt.NDArray[np.integer[Any]], class_names: Sequence[str]
) -> Majority:
    """The answers to n >= 1 test images against always the most frequent class; of equal ones, the first.

    predicted, labels: class numbers (n,). The p-value is that of the one-sided exact McNemar test.
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
    )


def no_better_than_majority(p_value: float | None, share: float | None, answer: str) -> str | None:
    """The finding in words where accuracy is not significantly above the constant answer's at 5%, else None.

    p_value, share, answer: as in `Majority`; None and empty in an older record, for which there is no finding.
    """
    if p_value is None or share is None or p_value < SIGNIFICANCE:
        return None
    named = f"answering {answer!r}" if answer else "giving one answer"
    return f"no better than always {named} ({share:.1%} of the test images)"


def accuracy_verdict(difference: float, p_value: float) -> Verdict:
    """The verdict on own accuracy minus the baseline's: tied unless the paired test is significant at 5%."""
    if p_value >= SIGNIFICANCE:
        return "tied"
    return "better" if difference > 0 else "worse"


def time_verdict(ratio_low: float, ratio_high: float) -> Verdict:
    """The verdict on the interval of own latency over the baseline's: tied where it reaches within 1% of 1.

    A smaller difference is no reason to change a model, and a model's place in memory changes latency by more.
    """
    if ratio_high < 1 - TOLERANCE:
        return "better"
    return "worse" if ratio_low > 1 + TOLERANCE else "tied"


def size_verdict(ratio: float) -> Verdict:
    """The verdict on own compressed bytes over the baseline's: tied within 1%, as compression varies with weights."""
    # Computed from bytes, 0.99 may come out as 0.9900000000000001.
    if abs(ratio - 1) <= TOLERANCE + 1e-9:
        return "tied"
    return "better" if ratio < 1 else "worse"
