"""The bound of a loss of accuracy, against its promise of 95%."""

import numpy as np
import pytest

from pipelines.results.statistics import largest_drop


@pytest.mark.parametrize("images", [30, 72, 600])
def test_nothing_lost_is_bounded_exactly(images: int) -> None:
    assert (1 - largest_drop(0, 0, images)) ** images == pytest.approx(0.05)


@pytest.mark.parametrize("images", [14, 72, 600, 2000])
@pytest.mark.parametrize("drop", [0.005, 0.01, 0.03, 0.1])
@pytest.mark.parametrize("won", [0.0, 0.005, 0.02, 0.1])
def test_bound_holds_in_95_of_100_draws(images: int, drop: float, won: float) -> None:
    random, draws = np.random.default_rng(0), 4000
    found = random.multinomial(images, [drop + won, won, 1 - drop - 2 * won], size=draws)
    counts, times = np.unique(found[:, :2], axis=0, return_counts=True)
    missed = sum(
        n for (lost, gained), n in zip(counts, times, strict=True) if largest_drop(lost, gained, images) < drop
    )
    # Bonett and Price's bound alone misses up to 10% where hardly an image differs.
    assert missed / draws < 0.065


def test_everything_lost() -> None:
    assert largest_drop(20, 0, 20) == 1.0
    assert largest_drop(0, 20, 20) < 0.15
