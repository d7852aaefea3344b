import dataclasses
import math
import re

import numpy as np
import pytest

from pipelines.results import agreement
from pipelines.results.cell_result import BaselineComparison, Measurement, Terms
from pipelines.results.score import OperationalScore

DEFAULT = OperationalScore(accuracy=2.0, size=0.5, test_time=0.25, train_time=0.25)


def measurement(accuracy: float = 0.55, compressed_bytes: int = 10_000_000, p50_ms: float = 10.0) -> Measurement:
    return Measurement(
        accuracy=accuracy,
        top5_accuracy=1.0,
        correct=0,
        test_images=100,
        p50_ms=p50_ms,
        p90_ms=p50_ms,
        p99_ms=p50_ms,
        images_per_s=1.0,
        load_ms=1.0,
        first_call_ms=1.0,
        file_bytes=compressed_bytes,
        compressed_bytes=compressed_bytes,
        chance=0.1,
        balanced_accuracy=accuracy,
    )


def compared() -> BaselineComparison:
    """With a baseline of 60%, 20 MB and twice the latency."""
    return BaselineComparison(
        baseline_accuracy=0.6,
        baseline_p50_ms=20.0,
        baseline_file_bytes=20_000_000,
        baseline_compressed_bytes=20_000_000,
        baseline_train_s=1.0,
        latency_ratio=0.5,
        ratio_low=0.5,
        ratio_high=0.5,
        accuracy_p_value=1.0,
        accuracy="tied",
        test_time="better",
        train_time=None,
        time="better",
        size="better",
        gain=Terms(accuracy=0.0, size=0.0, test_time=0.0, train_time=0.0),
        train_ratio=None,
        train_ratio_low=None,
        train_ratio_high=None,
    )


def test_terms_by_hand() -> None:
    # kappa = (0.55 - 0.1) / 0.9 = 0.5 -> 20 * 2 * log10(50) = 67.959; 10 MB -> -10; 10 ms -> -5; 100 s -> -10.
    terms = DEFAULT.terms(measurement(), train_total_s=100.0)
    assert terms.accuracy == pytest.approx(67.9588, abs=1e-4)
    assert (terms.size, terms.test_time, terms.train_time) == pytest.approx((-10.0, -5.0, -10.0))
    assert terms.total == pytest.approx(42.9588, abs=1e-4)


def test_a_tiny_model_that_guesses_has_a_low_score() -> None:
    guessing = DEFAULT.terms(measurement(accuracy=0.1, compressed_bytes=1000), train_total_s=1.0)
    # kappa is at its floor of 1e-4: 40 log10(0.01) = -80.
    assert guessing.accuracy == pytest.approx(-80.0)
    assert guessing.total < DEFAULT.terms(measurement(), train_total_s=1000.0).total


def test_gain_is_the_difference_of_scores_and_free_of_units() -> None:
    own, other = measurement(compressed_bytes=2_500_000, p50_ms=5.0), measurement()
    gain = DEFAULT.gain(own, other, baseline_p50_ms=10.0, train_total_s=100.0, baseline_train_s=100.0)
    # A quarter of the bytes: 10 log10(4); half of the time: 5 log10(2).
    assert gain.size == pytest.approx(10 * math.log10(4))
    assert gain.test_time == pytest.approx(5 * math.log10(2))
    assert (gain.accuracy, gain.train_time) == (0.0, 0.0)
    scores = [DEFAULT.terms(m, train_total_s=100.0).total for m in (own, other)]
    assert gain.total == pytest.approx(scores[0] - scores[1])


def test_zero_training_seconds_do_not_divide_by_zero() -> None:
    assert math.isfinite(DEFAULT.terms(measurement(), train_total_s=0.0).total)


@pytest.mark.parametrize(
    ("budget", "named"),
    [
        ({"min_accuracy": 0.6}, "min_accuracy"),
        ({"max_size_mb": 9.0}, "size"),
        ({"max_test_ms": 9.0}, "test time"),
        ({"max_train_s": 99.0}, "training time"),
    ],
)
def test_budgets(budget: dict[str, float], named: str) -> None:
    profile = dataclasses.replace(DEFAULT, **budget)
    (sentence,) = profile.violations(measurement(), train_total_s=100.0)
    assert named in sentence
    kept = measurement(accuracy=0.7, compressed_bytes=1_000_000, p50_ms=1.0)
    assert profile.violations(kept, train_total_s=1.0) == ()


@pytest.mark.parametrize(
    ("goal", "kept", "sentence"),
    [
        # 60% to 55%, 20 to 10 MB, half the time.
        ({"max_accuracy_drop": 0.04}, 0.05, "5.00 points below the baseline's, more than max_accuracy_drop 0.04"),
        ({"min_speedup": 2.1}, 2.0, "speedup over the baseline is 2, less than min_speedup 2.1"),
        ({"min_size_reduction": 4.0}, 2.0, "size reduction over the baseline is 2, less than min_size_reduction 4"),
    ],
)  # fmt: skip
def test_goals_relative_to_the_baseline(goal: dict[str, float], kept: float, sentence: str) -> None:
    profile = dataclasses.replace(DEFAULT, **goal)
    (found,) = profile.violations(measurement(), train_total_s=1.0, comparison=compared())
    assert sentence in found
    reached = dataclasses.replace(DEFAULT, **dict.fromkeys(goal, kept))
    assert reached.violations(measurement(), train_total_s=1.0, comparison=compared()) == ()
    # A baseline is as accurate, as fast and as large as itself.
    own = profile.violations(measurement(), train_total_s=1.0)
    assert len(own) == ("max_accuracy_drop" not in goal) and all("over the baseline is 1, less" in one for one in own)


def test_majority_answer_on_unbalanced_images_scores_nothing() -> None:
    # 90 of 100 images are of one class, and it is always answered: p_e = 0.9, so kappa = 0 and the term -80 dB.
    confusion = np.array([[90, 0], [10, 0]])
    guess = dataclasses.replace(measurement(accuracy=0.9), chance=agreement.chance(confusion))
    assert DEFAULT.terms(guess, train_total_s=1.0).accuracy == pytest.approx(-80.0)


def test_unknown_training_time_leaves_its_term_out() -> None:
    own = measurement(compressed_bytes=5_000_000)
    terms = DEFAULT.terms(own, train_total_s=None)
    # 40 log10(50) - 10 log10(5) - 5 log10(10)
    assert terms.total == pytest.approx(67.959 - 6.990 - 5.0, abs=1e-3)
    assert terms.train_time == 0.0
    for own_s, baseline_s in ((None, None), (None, 100.0), (100.0, None)):
        gain = DEFAULT.gain(own, measurement(), baseline_p50_ms=10.0, train_total_s=own_s, baseline_train_s=baseline_s)
        assert gain.train_time == 0.0 and gain.total == pytest.approx(10 * math.log10(2))


def test_unknown_training_time_keeps_no_budget() -> None:
    (sentence,) = dataclasses.replace(DEFAULT, max_train_s=99.0).violations(measurement(), train_total_s=None)
    assert sentence == (
        "training time in s is unknown and cannot keep its budget 99: model.trained_s=<seconds> states it"
    )
    assert DEFAULT.violations(measurement(), train_total_s=None) == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accuracy": -1.0}, "score.accuracy must be a number, 0 or more, got -1.0"),
        ({"size": "big"}, "score.size must be a number"),
        ({"accuracy": 0, "size": 0, "test_time": 0, "train_time": 0}, "exponent above 0"),
        ({"min_accuracy": 95}, "score.min_accuracy must be a fraction in (0, 1), got 95"),
        ({"max_accuracy_drop": -0.1}, "score.max_accuracy_drop must be a fraction in [0, 1), got -0.1"),
        ({"min_speedup": 0}, "score.min_speedup must be a number, more than 0, got 0"),
        ({"max_test_ms": 0.0}, "score.max_test_ms must be a number, more than 0, got 0.0"),
    ],
)
def test_bad_profiles_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(DEFAULT, **fields)  # type: ignore[arg-type]


def test_a_missed_limit_never_reads_as_kept() -> None:
    profile = dataclasses.replace(DEFAULT, max_test_ms=2.0, min_accuracy=0.9, max_size_mb=5.0)
    slow = measurement(accuracy=0.89996, compressed_bytes=5_000_400, p50_ms=2.0004)
    assert profile.violations(slow, train_total_s=1.0, comparison=None) == (
        "accuracy 0.89996 is below min_accuracy 0.9",
        "compressed size in MB 5.0004 is above its budget 5",
        "test time in ms 2.0004 is above its budget 2",
    )
    goals = dataclasses.replace(DEFAULT, max_accuracy_drop=0.02, min_speedup=2.0)
    comparison = dataclasses.replace(compared(), baseline_accuracy=0.57001, latency_ratio=0.5001)
    assert goals.violations(measurement(), train_total_s=1.0, comparison=comparison) == (
        "accuracy is 2.001 points below the baseline's, more than max_accuracy_drop 0.02 allows",
        "speedup over the baseline is 1.9996, less than min_speedup 2",
    )
