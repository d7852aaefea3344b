"""Where a repeat of a measurement lands: intervals for another estimate, not for the true value.

A 95% confidence interval of the true value holds a second estimate only 83% of the time, since the difference of two
estimates scatters sqrt(2) times as far as each of them. Who signs a figure is asked for the second estimate.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PAIRS = 10_000
Z = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """Pairs of independent bootstrap resamples of whole windows, a pair standing for two sessions.

    The calls of one window share where their memory lies and what else the machine does, and are not independent.
    ways: int64 (ways, windows), how often each window is in a resample of each kind: five windows can be drawn in 126
    ways only. which: int64 (2, pairs), the way of each resample.
    """

    ways: npt.NDArray[np.int64]
    which: npt.NDArray[np.int64]

    def interval(self, estimates: Floats) -> tuple[float, float]:
        """The 95% interval of what a repeat's estimate differs by from this one's: (below 0, above 0).

        estimates: (ways,). A few windows show too little of their spread: it is widened by sqrt(n / (n - 1)), which
        makes the bootstrap's variance unbiased, and by Student's t over the normal quantile.
        """
        windows = self.ways.shape[1]
        first, second = estimates[self.which]
        widened = (second - first) * math.sqrt(windows / (windows - 1)) * t_quantile(windows - 1) / Z
        low, high = np.quantile(widened, (0.025, 0.975))
        return float(low), float(high)


@cache
def resamples(windows: int, *, seed: int, pairs: int = PAIRS) -> Resamples:
    """So many pairs of resamples; the same for each artifact of a session. Raises ValueError for a single window."""
    if windows < 2:
        raise ValueError(f"there must be at least two windows, got {windows}: measure in more")
    drawn = np.random.default_rng(seed).integers(0, windows, (2 * pairs, windows))
    counts = np.stack([(drawn == one).sum(axis=1) for one in range(windows)], axis=1)
    ways, which = np.unique(counts, axis=0, return_inverse=True)
    return Resamples(ways=ways, which=which.reshape(2, pairs))


def repeat_interval(by_window: Floats, *, seed: int, pairs: int = PAIRS) -> tuple[float, float]:
    """The 95% interval of what a repeat's mean over its windows differs by from this one's: (below 0, above 0).

    by_window: (windows,), each window's own estimate, such as the log of its median.
    Raises ValueError for fewer than two windows.
    """
    if by_window.ndim != 1:
        raise ValueError(f"by_window must be (windows,), got {by_window.shape}: give one estimate for each window")
    drawn = resamples(len(by_window), seed=seed, pairs=pairs)
    return drawn.interval(drawn.ways @ by_window / len(by_window))


def t_quantile(degrees: int) -> float:
    """The 97.5% quantile of Student's t, within 2% from 4 degrees of freedom on.

    Source: Cornish-Fisher expansion, Abramowitz and Stegun 26.7.5.
    """
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    return Z + first / degrees + second / degrees**2
