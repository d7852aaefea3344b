"""Where a repeat of a measurement lands: intervals for another estimate, not for the true value.

A 95% confidence interval of the true value holds a second estimate only 83% of the time, since the difference of two
estimates scatters sqrt(2) times as far as each of them. Who signs a figure is asked for the second estimate.
"""

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES = 10_000
Z = 1.959963984540054


def repeat_interval(by_window: Floats, *, seed: int, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95% interval of what a repeat's mean over its windows differs by from this one's: (below 0, above 0).

    by_window: (windows,), each window's own estimate, such as the log of its median. Bootstrap over whole windows, as
    the calls of one share where their memory lies and what else the machine does, and are not independent: the
    difference of two independent resamples. A few windows show too little of their spread: it is widened by
    sqrt(n / (n - 1)), which makes the bootstrap's variance unbiased, and by Student's t over the normal quantile.

    Raises ValueError for fewer than two windows.
    """
    windows = len(by_window)
    if by_window.ndim != 1 or windows < 2:
        raise ValueError(f"by_window must be (windows,) with at least two, got {by_window.shape}: measure in more")
    drawn = np.random.default_rng(seed).integers(0, windows, (2, resamples, windows))
    first, second = by_window[drawn].mean(axis=2)
    widened = (second - first) * math.sqrt(windows / (windows - 1)) * t_quantile(windows - 1) / Z
    low, high = np.quantile(widened, (0.025, 0.975))
    return float(low), float(high)


def t_quantile(degrees: int) -> float:
    """The 97.5% quantile of Student's t, within 2% from 4 degrees of freedom on.

    Source: Cornish-Fisher expansion, Abramowitz and Stegun 26.7.5.
    """
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    return Z + first / degrees + second / degrees**2
