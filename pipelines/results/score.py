"""The operational score: accuracy, file size, testing time and training time in one number, in decibels.

    kappa = max(1e-4, (A - p_e) / (1 - p_e))                    Cohen's kappa: accuracy corrected for chance p_e
    score = 20 log10( (100 kappa)^a / (size_mb^s * test_ms^t * train_s^r) )

The form and the default exponents are NetScore's (Wong 2018, arXiv:1806.05512), with measured bytes and times in
the place of parameter and operation counts. The article that opscore follows does not disclose its own formula.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from pipelines.results import agreement
from pipelines.results.cell_result import BaselineComparison, Measurement, Terms
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


def factors(*, accuracy: float, chance: float, compressed_bytes: float, test_ms: float, train_s: float | None) -> Terms:
    """What the score's exponents multiply, in dB: its terms if every exponent is 1.

    accuracy, chance: fractions. test_ms: of one image. train_s: of all training; None if unknown, whose term is 0.
    """
    return Terms(
        accuracy=decibels(1.0, math.log10(100 * kappa(accuracy, chance))),
        size=decibels(-1.0, math.log10(compressed_bytes / 1e6)),
        test_time=decibels(-1.0, math.log10(test_ms)),
        train_time=0.0 if train_s is None else decibels(-1.0, math.log10(max(TRAIN_FLOOR_S, train_s))),
    )


@dataclass(frozen=True, kw_only=True)
class Limited:
    """The figures that budgets and goals limit.

    train_s: None if unknown. drop, time_ratio, size_ratio: accuracy below the baseline's, and test time and compressed
    size over its own; a baseline is as accurate, as fast and as large as itself.
    """

    accuracy: float
    compressed_bytes: float
    test_ms: float
    train_s: float | None
    drop: float
    time_ratio: float
    size_ratio: float

    def sentence(self, name: str, limit: float) -> str:
        """That this limit is missed. name: of BUDGETS or GOALS."""
        budgets = {
            "max_size_mb": ("compressed size in MB", self.compressed_bytes / 1e6),
            "max_test_ms": ("test time in ms", self.test_ms),
            "max_train_s": ("training time in s", self.train_s),
        }
        if name in budgets:
            what, value = budgets[name]
            if value is None:
                return f"{what} is unknown and cannot keep its budget {limit:g}: {STATE_TRAINED_S} states it"
            return f"{what} {apart_from(value, limit)} is above its budget {limit:g}"
        if name == "min_accuracy":
            return f"accuracy {apart_from(self.accuracy, limit)} is below min_accuracy {limit:g}"
        if name == "max_accuracy_drop":
            points = apart_from(100 * self.drop, 100 * limit, ".2f")
            return f"accuracy is {points} points below the baseline's, more than {name} {limit:g} allows"
        what, ratio = ("speedup", self.time_ratio) if name == "min_speedup" else ("size reduction", self.size_ratio)
        return f"{what} over the baseline is {apart_from(1 / ratio, limit)}, less than {name} {limit:g}"


def apart_from(value: float, limit: float, form: str = ".4g") -> str:
    """A value in a form, or with as many digits as it takes not to read as the limit where it is another number."""
    texts = [format(value, one) for one in (form, *(f".{digits}g" for digits in range(4, 17)))]
    if math.isclose(value, limit):
        return texts[0]
    return next((text for text in texts if not math.isclose(float(text), limit)), texts[0])


def used(limits: Mapping[str, float], measured: Limited) -> dict[str, float]:
    """The used fraction of each limit, by its name in BUDGETS or GOALS; above 1 it is missed.

    Infinite for a budget of an unknown training time, and for any drop where none is allowed.
    """
    room, drop = limits.get("max_accuracy_drop", 0.0), measured.drop
    fractions: dict[str, Callable[[float], float]] = {
        "min_accuracy": lambda limit: limit / max(measured.accuracy, 1e-9),
        "max_size_mb": lambda limit: measured.compressed_bytes / 1e6 / limit,
        "max_test_ms": lambda limit: measured.test_ms / limit,
        "max_train_s": lambda limit: math.inf if measured.train_s is None else measured.train_s / limit,
        "max_accuracy_drop": lambda _: 0.0 if drop <= room + ROUNDING else drop / room if room else math.inf,
        "min_speedup": lambda limit: limit * measured.time_ratio,
        "min_size_reduction": lambda limit: limit * measured.size_ratio,
    }
    return {name: fraction(limits[name]) for name, fraction in fractions.items() if name in limits}


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
        self, measurement: Measurement, *, train_total_s: float | None, comparison: BaselineComparison | None = None
    ) -> tuple[str, ...]:
        """One sentence for each budget or goal that is missed or cannot be checked; empty means feasible.

        comparison: with the baseline; None for a baseline, which is as fast and as large as itself.
        """
        measured = Limited(
            accuracy=measurement.accuracy,
            compressed_bytes=measurement.compressed_bytes,
            test_ms=measurement.p50_ms,
            train_s=train_total_s,
            drop=comparison.baseline_accuracy - measurement.accuracy if comparison else 0.0,
            time_ratio=comparison.latency_ratio if comparison else 1.0,
            size_ratio=measurement.compressed_bytes / comparison.baseline_compressed_bytes if comparison else 1.0,
        )
        limits = {name: getattr(self, name) for name in (*BUDGETS, *GOALS) if getattr(self, name) is not None}
        missed = [name for name, fraction in used(limits, measured).items() if fraction > 1]
        return tuple(measured.sentence(name, limits[name]) for name in missed)

    def _terms(self, measurement: Measurement, *, test_ms: float, train_s: float | None) -> Terms:
        raised = factors(
            accuracy=measurement.accuracy,
            chance=measurement.chance,
            compressed_bytes=measurement.compressed_bytes,
            test_ms=test_ms,
            train_s=train_s,
        )
        return Terms(**{name: getattr(self, name) * getattr(raised, name) for name in CRITERIA})
