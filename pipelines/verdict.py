"""A cell beside its baseline: better, tied or worse in accuracy, time and size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.records import Verdict

SIGNIFICANCE = 0.05
TOLERANCE = 0.01


def mcnemar_p_value(candidate: npt.NDArray[np.bool_], baseline: npt.NDArray[np.bool_]) -> float:
    """Two-sided exact McNemar test on paired answers, true where right; 1.0 where the two never differ.

    Source: McNemar 1947, doi:10.1007/BF02295996. Raises ValueError if the two are not of the same shape.
    """
    from scipy.stats import binomtest

    if candidate.shape != baseline.shape:
        raise ValueError(f"paired answers must be equally many, got {candidate.shape} and {baseline.shape}")
    gained = int(np.sum(candidate & ~baseline))
    lost = int(np.sum(~candidate & baseline))
    return float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def accuracy_verdict(difference: float, p_value: float) -> Verdict:
    """Of own accuracy minus the baseline's: tied unless the paired test is significant at 5%."""
    if p_value >= SIGNIFICANCE:
        return "tied"
    return "better" if difference > 0 else "worse"


def time_verdict(ratio_low: float, ratio_high: float) -> Verdict:
    """Of the interval of own latency over the baseline's: tied where it reaches within 1% of 1.

    Nobody operates another model for less; and where memory happens to lie moves a latency by more.
    """
    if ratio_high < 1 - TOLERANCE:
        return "better"
    return "worse" if ratio_low > 1 + TOLERANCE else "tied"


def size_verdict(ratio: float) -> Verdict:
    """Of own compressed bytes over the baseline's; tied within 1%, as other weights compress otherwise."""
    # Counted in bytes, 0.99 may come out as 0.9900000000000001.
    if abs(ratio - 1) <= TOLERANCE + 1e-9:
        return "tied"
    return "better" if ratio < 1 else "worse"
