"""Intervals and tests against SciPy's values, published values and values by hand."""

import itertools
import math
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from pipelines.results.statistics import (
    Z,
    approximate_t_quantile,
    mcnemar,
    mean_interval,
    mean_share,
    paired_difference,
    repeat_interval,
    t_quantile,
    wilson,
)


@pytest.mark.parametrize(("correct", "images"), [(0, 10), (10, 10), (81, 263), (1234, 2000)])
def test_wilson_is_scipys(correct: int, images: int) -> None:
    expected = stats.binomtest(correct, images).proportion_ci(method="wilson")
    assert wilson(correct, images) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_quantiles_are_scipys() -> None:
    assert pytest.approx(stats.norm.ppf(0.975), rel=1e-15) == Z
    assert t_quantile(3) == pytest.approx(stats.t.ppf(0.975, 3))
    assert t_quantile(3, 0.9) == pytest.approx(stats.t.ppf(0.9, 3))


def test_mean_over_seeds_is_students() -> None:
    expected = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem([1.0, 2.0, 4.0]))
    assert mean_interval([1.0, 2.0, 4.0]) == pytest.approx(expected)


def test_the_mean_over_seeds_by_hand() -> None:
    # m = 0.8, s = 0.1, logit(m) = 1.386294; half = 4.302653 * 0.1 / (sqrt(3) * 0.16) = 1.552586.
    assert mean_share([0.7, 0.8, 0.9], 0) == pytest.approx((0.458523, 0.949735), abs=1e-6)
    # m = 0.965, s / sqrt(2) = 0.005, logit(m) = 3.316780; half = 12.706205 * 0.005 / 0.033775 = 1.881007.
    assert mean_share([0.96, 0.97], 0) == pytest.approx((0.807799, 0.994502), abs=1e-6)
    # Wilson's for 800 of 1,000 is 0.774081 to 0.823623: hypot(0.341477, 0.025919) and hypot(0.149735, 0.023623).
    assert mean_share([0.7, 0.8, 0.9], 1000) == pytest.approx((0.457541, 0.951588), abs=1e-5)


@pytest.mark.parametrize(
    ("shares", "images"),
    [([0.0, 1.0], 20), ([1.0, 1.0], 20), ([0.0, 0.0, 0.0], 20), ([1.0, 0.95], 20), ([0.5, 0.5], 0)],
)
def test_a_share_has_bounds(shares: list[float], images: int) -> None:
    low, high = mean_share(shares, images)
    assert 0 <= low <= sum(shares) / len(shares) <= high <= 1
    if images:
        # Never narrower than the number of images allows.
        wide = wilson(sum(shares) / len(shares) * images, images)
        assert low <= wide[0] and wide[1] <= high and high - low > 0.1


def test_paired_difference_against_published_values() -> None:
    # R package statpsych, ci.prop.ps(.05, 12, 4, 26, 6).
    assert paired_difference(26 - 4, 26 + 4, 48) == pytest.approx((0.2548067, 0.6251933), abs=1e-7)
    # By hand, Bentur et al. 2009 (1, 1, 7, 12): p = -6/23, q = 10/23, sqrt((q - p^2)/23) = 0.126273.
    low, high = paired_difference(1 - 7, 1 + 7, 21)
    assert (low, high) == pytest.approx((-6 / 23 - 1.959964 * 0.126273, -6 / 23 + 1.959964 * 0.126273), abs=1e-5)


def test_more_discordant_images_widen_the_interval() -> None:
    found = [paired_difference(-3, discordant, 100) for discordant in (3, 4, 10, 50, 100)]
    for (low, high), (wider_low, wider_high) in itertools.pairwise(found):
        assert wider_low < low and high < wider_high
    assert paired_difference(-1, 1, 1)[0] == -1


@pytest.mark.parametrize(("difference", "discordant", "images"), [(3, 2, 10), (0, 11, 10), (0, 0, 0)])
def test_impossible_counts_are_refused(difference: int, discordant: int, images: int) -> None:
    with pytest.raises(ValueError, match=f"got {difference}, {discordant} and {images}"):
        paired_difference(difference, discordant, images)


def paired_answers(both: int, gained: int, lost: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    candidate = np.repeat([True, True, False, False], [both, gained, lost, neither])
    baseline = np.repeat([True, False, True, False], [both, gained, lost, neither])
    return candidate, baseline


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [
        (0, 0, 1.0),
        (5, 5, 1.0),
        # Two-sided exact binomial: 2 * 0.5^6 = 1/32, and 2 * (1 + 10) / 2^10 = 11/512.
        (0, 6, 0.03125),
        (9, 1, 0.021484375),
    ],
)
def test_mcnemar_by_hand(gained: int, lost: int, p_value: float) -> None:
    assert mcnemar(*paired_answers(50, gained, lost, 7)) == pytest.approx(p_value)


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
@pytest.mark.parametrize(("gained", "lost"), [(0, 1), (1, 0), (3, 9), (9, 3), (12, 12), (0, 40)])
def test_mcnemar_is_scipys(gained: int, lost: int, alternative: Literal["two-sided", "greater"]) -> None:
    expected = stats.binomtest(gained, gained + lost, 0.5, alternative=alternative).pvalue
    assert mcnemar(*paired_answers(50, gained, lost, 7), alternative=alternative) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="equally many"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))


class TestRepeatInterval:
    @pytest.mark.parametrize("windows", [5, 10, 20])
    def test_contains_a_second_mean_in_95_of_100_cases(self, windows):
        generator = np.random.default_rng(0)
        inside = 0
        for _ in range(1000):
            # The place in memory shifts each window, and the calls of a window scatter too.
            first, second = (generator.normal(0, 0.01, windows) + generator.normal(0, 0.005, windows) for _ in "ab")
            low, high = repeat_interval(first, seed=0, pairs=1000)
            inside += low <= second.mean() - first.mean() <= high
        # Three standard errors of 1,000 cases are 2%.
        assert 0.93 <= inside / 1000 <= 0.97

    def test_has_the_width_of_students_t(self):
        by_window = np.random.default_rng(1).normal(0, 0.01, 10)
        low, high = repeat_interval(by_window, seed=0)
        half = 2.262 * by_window.std(ddof=1) * math.sqrt(2 / 10)
        assert (-low, high) == pytest.approx((half, half), rel=0.05)

    def test_equal_windows_have_an_interval_of_width_zero(self):
        assert repeat_interval(np.full(10, 0.3), seed=0) == pytest.approx((0, 0), abs=1e-12)

    @pytest.mark.parametrize(("degrees", "expected"), [(4, 2.776), (9, 2.262), (19, 2.093), (1000, 1.962)])
    def test_approximate_t_quantile_by_the_tables(self, degrees, expected):
        assert approximate_t_quantile(degrees) == pytest.approx(expected, rel=0.02)

    @pytest.mark.parametrize(
        ("by_window", "message"),
        [
            (np.zeros(1), "there must be at least two windows, got 1"),
            (np.zeros((2, 2)), r"by_window must be \(windows,\), got \(2, 2\)"),
        ],
    )
    def test_refuses_a_single_window(self, by_window, message):
        with pytest.raises(ValueError, match=message):
            repeat_interval(by_window, seed=0)
