import math
from dataclasses import replace

import numpy as np
import pytest

from pipelines.results.cell_result import Majority
from pipelines.results.verdict import (
    TRAIN_SPREAD,
    accuracy_verdict,
    both_times,
    caution,
    majority,
    no_better_than_majority,
    size_verdict,
    time_verdict,
    training_ratio,
)


@pytest.mark.parametrize(
    ("own", "p_value", "verdict"), [(0.6, 0.01, "better"), (0.5, 0.01, "worse"), (0.6, 0.2, "tied")]
)
def test_accuracy(own: float, p_value: float, verdict: str) -> None:
    assert accuracy_verdict(own - 0.55, p_value) == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.5, 0.9, "better"),
        (1.1, 1.3, "worse"),
        (0.9, 1.1, "tied"),
        # Significantly below or above 1, but by less than the tolerance.
        (0.992, 0.996, "tied"),
        (1.004, 1.008, "tied"),
    ],
)
def test_time(low: float, high: float, verdict: str) -> None:
    assert time_verdict(low, high) == verdict


@pytest.mark.parametrize(("own", "verdict"), [(989, "better"), (990, "tied"), (1010, "tied"), (1011, "worse")])
def test_size(own: int, verdict: str) -> None:
    assert size_verdict(own / 1000) == verdict


@pytest.mark.parametrize(
    ("labels", "predicted", "answer", "share", "p_value"),
    [
        # Five images, all right; the constant answer is wrong on two of them: 1/4.
        ("aaabb", "aaabb", "a", 0.6, 0.25),
        # One gained, two lost: 7 of 8 outcomes are as good or better.
        ("aaabb", "abbba", "a", 0.6, 0.875),
        # Five gained: 1/32, which is significant.
        ("aaaaabbbbb", "aaaaabbbbb", "a", 0.5, 0.03125),
        # The constant answer itself, and a test split of one class.
        ("abb", "bbb", "b", 2 / 3, 1.0),
        ("bbb", "bbb", "b", 1.0, 1.0),
    ],
)
def test_majority_by_hand(labels: str, predicted: str, answer: str, share: float, p_value: float) -> None:
    numbers, right = (np.array(["abc".index(one) for one in word]) for word in (predicted, labels))
    found = majority(numbers, right, ("a", "b", "c"))
    assert found.answer == answer and found.share == pytest.approx(share)
    assert found.p_value == pytest.approx(p_value)


def test_no_better_than_majority_in_words() -> None:
    found = Majority(answer="cat", share=0.52, p_value=0.05)
    assert no_better_than_majority(found) == "no better than always answering 'cat' (52.0% of the test images)"
    assert no_better_than_majority(replace(found, p_value=0.049)) is None
    # Nothing is recorded.
    assert no_better_than_majority(None) is None


def test_rare_defects_may_be_found_without_more_right_answers() -> None:
    """950 good parts and 50 defects, of which 35 are found, with 30 false alarms: recall 70%, kappa 0.59."""
    right, numbers = np.repeat([0, 1], (950, 50)), np.repeat([0, 1, 0, 1], (920, 30, 15, 35))
    found = majority(numbers, right, ("ok", "defect"))
    assert found.p_value == pytest.approx(0.31, abs=0.01) and found.agreement_p_value is not None
    assert found.agreement_p_value < 1e-20
    assert no_better_than_majority(found) is None
    assert str(caution(found)).startswith("Its accuracy is no better than always answering 'ok' (95.0% of")
    # All defects, with 300 false alarms.
    assert str(of_defects((650, 350), (950, 50))).startswith("less often right than always answering 'ok'")
    # Two of 20 defects with six false alarms: fewer right answers, but not significantly.
    found = majority(np.repeat([0, 1, 0, 1], (974, 6, 18, 2)), np.repeat([0, 1], (980, 20)), ("ok", "defect"))
    assert found.worse_p_value == pytest.approx(0.1445, abs=1e-3)
    assert no_better_than_majority(found) is None


def test_defects_of_two_kinds_taken_for_each_other() -> None:
    """Exactly as often right as the constant answer, which is not less often."""
    right, numbers = np.repeat([0, 1, 2], (90, 5, 5)), np.repeat([0, 2, 1], (90, 5, 5))
    assert no_better_than_majority(majority(numbers, right, ("ok", "a", "b"))) is None


def of_defects(answers: tuple[int, int], labels: tuple[int, int]) -> str | None:
    return no_better_than_majority(majority(np.repeat([0, 1], answers), np.repeat([0, 1], labels), ("ok", "defect")))


# 1.96 standard deviations of the log ratio of two trainings, each of which scatters by 0.12.
FACTOR = math.exp(1.959964 * math.sqrt(2) * 0.12)


@pytest.mark.parametrize(
    ("shared_s", "total_s", "ratio", "low", "high", "mark"),
    [
        # The baseline's training and nothing else: the same seconds.
        (10.0, 10.0, 1.0, 1.0, 1.0, "tied"),
        # Three seconds of fine-tuning more, in one step or in two.
        (10.0, 13.0, 1.3, 1 + 0.3 / FACTOR, 1 + 0.3 * FACTOR, "worse"),
        # Another training, of about the same time, and one of an eighth.
        (0.0, 11.0, 1.1, 1.1 / FACTOR, 1.1 * FACTOR, "tied"),
        (0.0, 1.25, 0.125, 0.125 / FACTOR, 0.125 * FACTOR, "better"),
    ],
)
def test_training_ratio_by_hand(
    shared_s: float, total_s: float, ratio: float, low: float, high: float, mark: str
) -> None:
    assert TRAIN_SPREAD == 0.12
    found = training_ratio(shared_s, total_s, 10.0)
    assert found == pytest.approx((ratio, low, high), rel=1e-6)
    assert time_verdict(*found[1:]) == mark


def test_no_training_time_does_not_divide_by_zero() -> None:
    assert training_ratio(0.0, 0.0, 0.0)[0] == 1.0


@pytest.mark.parametrize(
    ("train", "weights", "expected"),
    [
        # Equal weights: the square roots of 0.5 * 2 and 0.6 * 3.
        ((2.0, 3.0), (0.25, 0.25), (1.0, math.sqrt(1.8))),
        # Testing counts three times as much: 0.5^0.75 * 2^0.25.
        ((2.0, 3.0), (0.75, 0.25), (0.5**0.75 * 2**0.25, 0.6**0.75 * 3**0.25)),
        # Without training time, by weight or as it is unknown.
        ((2.0, 3.0), (0.5, 0.0), (0.5, 0.6)),
        (None, (0.25, 0.25), (0.5, 0.6)),
        # Where the score weighs neither, the two count alike.
        ((2.0, 3.0), (0.0, 0.0), (1.0, math.sqrt(1.8))),
    ],
)
def test_both_times_by_hand(
    train: tuple[float, float] | None, weights: tuple[float, float], expected: tuple[float, float]
) -> None:
    found = both_times((0.5, 0.6), train, test_weight=weights[0], train_weight=weights[1])
    assert found == pytest.approx(expected)
