"""A cell beside its baseline: better, tied or worse in accuracy, time and size."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.records import Measurement, Verdict

SIGNIFICANCE = 0.05
SIZE_TOLERANCE = 0.01


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


def accuracy_verdict(own: Measurement, baseline: Measurement, p_value: float) -> Verdict:
    """Tied unless the paired test is significant at 5%."""
    if p_value >= SIGNIFICANCE:
        return "tied"
    return "better" if own.accuracy > baseline.accuracy else "worse"


def time_verdict(ratio_low: float, ratio_high: float) -> Verdict:
    """Of the interval of own latency over the baseline's: tied where it holds 1."""
    if ratio_high < 1:
        return "better"
    return "worse" if ratio_low > 1 else "tied"


def size_verdict(own: Measurement, baseline: Measurement) -> Verdict:
    """Of the compressed bytes, which the score counts too; tied within 1%, as other weights compress otherwise."""
    more = own.compressed_bytes - baseline.compressed_bytes
    if abs(more) <= SIZE_TOLERANCE * baseline.compressed_bytes:
        return "tied"
    return "better" if more < 0 else "worse"
