import itertools

import pytest
from scipy import stats

from pipelines.results import intervals


@pytest.mark.parametrize(("correct", "images"), [(0, 10), (10, 10), (81, 263), (1234, 2000)])
def test_wilson_is_scipys(correct: int, images: int) -> None:
    expected = stats.binomtest(correct, images).proportion_ci(method="wilson")
    assert intervals.wilson(correct, images) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_mean_over_seeds_by_hand() -> None:
    # m = 0.8, s = 0.1, logit(m) = 1.386294; half = 4.302653 * 0.1 / (sqrt(3) * 0.16) = 1.552586.
    assert intervals.mean_share([0.7, 0.8, 0.9], 0) == pytest.approx((0.458523, 0.949735), abs=1e-6)
    # m = 0.965, s / sqrt(2) = 0.005, logit(m) = 3.316780; half = 12.706205 * 0.005 / 0.033775 = 1.881007.
    assert intervals.mean_share([0.96, 0.97], 0) == pytest.approx((0.807799, 0.994502), abs=1e-6)


@pytest.mark.parametrize(
    ("shares", "images"),
    [([0.0, 1.0], 20), ([1.0, 1.0], 20), ([0.0, 0.0, 0.0], 20), ([1.0, 0.95], 20), ([0.5, 0.5], 0)],
)
def test_a_share_has_bounds(shares: list[float], images: int) -> None:
    low, high = intervals.mean_share(shares, images)
    assert 0 <= low <= sum(shares) / len(shares) <= high <= 1
    if images:
        # Never narrower than what so many images allow.
        wide = intervals.wilson(sum(shares) / len(shares) * images, images)
        assert low <= wide[0] and wide[1] <= high and high - low > 0.1


def test_paired_difference_is_the_published_one() -> None:
    # R package statpsych, ci.prop.ps(.05, 12, 4, 26, 6).
    assert intervals.paired_difference(26 - 4, 26 + 4, 48) == pytest.approx((0.2548067, 0.6251933), abs=1e-7)
    # By hand, Bentur et al. 2009 (1, 1, 7, 12): p = -6/23, q = 10/23, sqrt((q - p^2)/23) = 0.126273.
    low, high = intervals.paired_difference(1 - 7, 1 + 7, 21)
    assert (low, high) == pytest.approx((-6 / 23 - 1.959964 * 0.126273, -6 / 23 + 1.959964 * 0.126273), abs=1e-5)


def test_more_discordant_images_only_widen_it() -> None:
    found = [intervals.paired_difference(-3, discordant, 100) for discordant in (3, 4, 10, 50, 100)]
    for (low, high), (wider_low, wider_high) in itertools.pairwise(found):
        assert wider_low < low and high < wider_high
    assert intervals.paired_difference(-1, 1, 1)[0] == -1


@pytest.mark.parametrize(("difference", "discordant", "images"), [(3, 2, 10), (0, 11, 10), (0, 0, 0)])
def test_impossible_counts_are_refused(difference: int, discordant: int, images: int) -> None:
    with pytest.raises(ValueError, match=f"got {difference}, {discordant} and {images}"):
        intervals.paired_difference(difference, discordant, images)
