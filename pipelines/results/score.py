"""The operational score: accuracy, file size, testing time and training time in one number, in decibels.

    kappa = max(1e-4, (A - p_e) / (1 - p_e))                    Cohen's kappa: accuracy corrected for chance p_e
    score = 20 log10( (100 kappa)^a / (size_mb^s * test_ms^t * train_s^r) )

The form and the default exponents are NetScore's (Wong 2018, arXiv:1806.05512), with measured bytes and times in
the place of parameter and operation counts. The article that opscore follows does not disclose its own formula.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipelines.results import agreement
from pipelines.results.records import Comparison, Measurement, Terms
from pipelines.system import checks

Floats = npt.NDArray[np.float64]
Number = TypeVar("Number", float, Floats)

CRITERIA = tuple(field.name for field in fields(Terms))
BUDGETS = ("min_accuracy", "max_size_mb", "max_test_ms", "max_train_s")
# Budgets relative to the baseline.
GOALS = ("max_accuracy_drop", "min_speedup", "min_size_reduction")
KAPPA_FLOOR = 1e-4
# Differences of accuracies are compared up to rounding: 0.9 - 0.88 is more than 0.02.
ROUNDING = 1e-9
# A cell that took no measurable time to train must not divide by zero.
TRAIN_FLOOR_S = 1e-3
# The setting that states an unknown training time.
STATE_TRAINED_S = "model.trained_s=<seconds>"


def decibels(exponent: float, log10: Number) -> Number:
    """The part of the score from a factor with this decimal logarithm under the exponent."""
    return 20 * exponent * log10


def kappa(accuracy: Number, chance: float) -> Number:
    """Cohen's kappa, at least KAPPA_FLOOR."""
    corrected: Number = np.maximum(KAPPA_FLOOR, agreement.kappa(accuracy, chance))
    return corrected


@dataclass(frozen=True, kw_only=True)
class OperationalScore:
    """Exponents of the criteria, and budgets that a cell must keep to be fit for operation.

    accuracy, size, test_time, train_time: exponents >= 0, not all zero. min_accuracy: fraction in (0, 1);
    max_size_mb: compressed, in 10^6 bytes; max_test_ms: p50 latency of an image; max_train_s: with the parent cell's.
    Goals relative to the baseline: max_accuracy_drop: fraction in [0, 1); min_speedup: the baseline's latency over the
    cell's; min_size_reduction: the baseline's compressed size over the cell's; 2 means twice as fast, half the size.
    An unknown training time adds nothing to a score, and keeps no `max_train_s`.
    """

    accuracy: float
    size: float
    test_time: float
    train_time: float
    min_accuracy: float | None = None
    max_size_mb: float | None = None
    max_test_ms: float | None = None
    max_train_s: float | None = None
    max_accuracy_drop: float | None = None
    min_speedup: float | None = None
    min_size_reduction: float | None = None

    def __post_init__(self) -> None:
        """Check exponents and budgets."""
        for name in CRITERIA:
            checks.number(f"score.{name}", getattr(self, name), minimum=0)
        if not any(getattr(self, name) for name in CRITERIA):
            raise ValueError("score needs an exponent above 0, got all 0: set for example score.accuracy=2")
        if self.min_accuracy is not None:
            checks.fraction("score.min_accuracy", self.min_accuracy)
        if self.max_accuracy_drop is not None:
            checks.fraction("score.max_accuracy_drop", self.max_accuracy_drop, zero=True)
        for name in (*BUDGETS[1:], *GOALS[1:]):
            if getattr(self, name) is not None:
                checks.number(f"score.{name}", getattr(self, name), exclusive_minimum=0)

    def terms(self, measurement: Measurement, *, train_total_s: float | None) -> Terms:
        """The score's four terms in dB; `.total` is the score. train_total_s: None if unknown."""
        return self._terms(measurement, test_ms=measurement.p50_ms, train_s=train_total_s)

    def gain(
        self,
        measurement: Measurement,
        baseline: Measurement,
        *,
        baseline_p50_ms: float,
        train_total_s: float | None,
        baseline_train_s: float | None,
    ) -> Terms:
        """The score minus the baseline's in dB, by criterion; units cancel.

        baseline_p50_ms: the baseline's latency as timed in turns with this exported model, not in its own run. A
        training time that is unknown on one side is left out on both.
        """
        if train_total_s is None or baseline_train_s is None:
            train_total_s = baseline_train_s = None
        own = self.terms(measurement, train_total_s=train_total_s)
        return own - self._terms(baseline, test_ms=baseline_p50_ms, train_s=baseline_train_s)

    def violations(
        self, measurement: Measurement, *, train_total_s: float | None, comparison: Comparison | None = None
    ) -> tuple[str, ...]:
        """One sentence for each budget or goal that is missed or cannot be checked; empty means feasible.

        comparison: with the baseline; None for a baseline, which is as fast and as large as itself.
        """
        size_mb = measurement.compressed_bytes / 1e6
        found = []
        if self.min_accuracy is not None and measurement.accuracy < self.min_accuracy:
            found.append(f"accuracy {measurement.accuracy:.4f} is below min_accuracy {self.min_accuracy:g}")
        for what, value, budget in (
            ("compressed size in MB", size_mb, self.max_size_mb),
            ("test time in ms", measurement.p50_ms, self.max_test_ms),
            ("training time in s", train_total_s, self.max_train_s),
        ):
            if budget is not None and value is None:
                found.append(f"{what} is unknown and cannot keep its budget {budget:g}: {STATE_TRAINED_S} states it")
            elif budget is not None and value is not None and value > budget:
                found.append(f"{what} {value:.4g} is above its budget {budget:g}")
        return *found, *self._missed_goals(measurement, comparison)

    def _missed_goals(self, measurement: Measurement, comparison: Comparison | None) -> Iterator[str]:
        drop = comparison.baseline_accuracy - measurement.accuracy if comparison else 0.0
        if self.max_accuracy_drop is not None and drop > self.max_accuracy_drop + ROUNDING:
            yield (
                f"accuracy is {100 * drop:.2f} points below the baseline's, more than max_accuracy_drop "
                f"{self.max_accuracy_drop:g} allows"
            )
        smaller = comparison.baseline_compressed_bytes / measurement.compressed_bytes if comparison else 1.0
        faster = 1 / comparison.latency_ratio if comparison else 1.0
        for what, value, goal in (
            ("speedup", faster, self.min_speedup),
            ("size_reduction", smaller, self.min_size_reduction),
        ):
            if goal is not None and value < goal:
                yield f"{what.replace('_', ' ')} over the baseline is {value:.3g}, less than min_{what} {goal:g}"

    def _terms(self, measurement: Measurement, *, test_ms: float, train_s: float | None) -> Terms:
        assert measurement.chance is not None  # only records that are not scored any more lack it
        return Terms(
            accuracy=decibels(self.accuracy, math.log10(100 * kappa(measurement.accuracy, measurement.chance))),
            size=decibels(-self.size, math.log10(measurement.compressed_bytes / 1e6)),
            test_time=decibels(-self.test_time, math.log10(test_ms)),
            train_time=(
                0.0 if train_s is None else decibels(-self.train_time, math.log10(max(TRAIN_FLOOR_S, train_s)))
            ),
        )
