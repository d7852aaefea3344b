import itertools

import pytest

from pipelines import intervals


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
