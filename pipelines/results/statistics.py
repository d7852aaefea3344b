"""Intervals and tests, as plain functions of counts and arrays. SciPy is loaded only by those that no device calls.

Confidence is 95% and significance 5% everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
# The 97.5% quantile of the standard normal distribution.
Z = 1.959963984540054
# One-sided 95%.
ONE_SIDED = 1.6448536269514722
# Pairs of resamples of whole windows.
PAIRS = 10_000


def wilson(correct: float, images: int) -> tuple[float, float]:
    """The score interval of a share, within 0 and 1. Source: Wilson 1927, doi:10.1080/01621459.1927.10502953."""
    share, spread = correct / images, Z**2 / images
    centre = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / images + spread / (4 * images))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_share(shares: Sequence[float], images: int) -> tuple[float, float]:
    """Interval of the mean m of at least two shares, each found on the same `images` images; within 0 and 1.

    The spread over seeds, by Student's t on the logit scale, on which a share has no bounds:

        logit(m) -+ t(n - 1) s / (sqrt(n) m (1 - m)),  turned back into shares

    It is that of training alone, as all seeds saw the same images. The choice of the images adds Wilson's for m
    (`combined`). images: 0 if unknown. Source of the scale: Korn and Graubard 1999, Analysis of Health Surveys, 2.4.
    """
    from statistics import fmean, stdev

    from scipy.special import expit, logit

    mean, error = fmean(shares), stdev(shares) / math.sqrt(len(shares))
    of_images = wilson(mean * images, images) if images else (mean, mean)
    of_seeds = mean, mean
    if error and 0 < mean < 1:
        half = t_quantile(len(shares) - 1) * error / (mean * (1 - mean))
        of_seeds = float(expit(logit(mean) - half)), float(expit(logit(mean) + half))
    low, high = combined(mean, of_images, of_seeds)
    return max(0.0, low), min(1.0, high)


def combined(value: float, *intervals: tuple[float, float]) -> tuple[float, float]:
    """The interval of a value with several independent errors, each with its own interval around it.

    The distances of the bounds from the value are added in quadrature, below and above.
    Source: MOVER, Zou and Donner 2008, doi:10.1002/sim.3095.
    """
    low = math.hypot(*(value - low for low, _ in intervals))
    high = math.hypot(*(high - value for _, high in intervals))
    return value - low, value + high


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Interval of the mean of at least two values, by Student's t."""
    mean, error = mean_error(values)
    half = t_quantile(len(values) - 1) * error
    return mean - half, mean + half


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean of at least two values and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def t_quantile(degrees: int, share: float = 1 - SIGNIFICANCE / 2) -> float:
    """The `share` quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, share))


def mcnemar(
    candidate: npt.NDArray[np.bool_],
    other: npt.NDArray[np.bool_],
    alternative: Literal["two-sided", "greater"] = "two-sided",
) -> float:
    """The p-value of the exact McNemar test on paired answers, true where right; 1.0 where the two never differ.

    "greater": small only where the candidate is right more often. Source: McNemar 1947, doi:10.1007/BF02295996.
    Raises ValueError if the two are not of the same shape.
    """
    from scipy.special import bdtr  # scipy.stats takes a second to import

    if candidate.shape != other.shape:
        raise ValueError(f"paired answers must be equally many, got {candidate.shape} and {other.shape}")
    gained, lost = int(np.sum(candidate & ~other)), int(np.sum(~candidate & other))
    # The binomial of fair coins is symmetric: both tails are the probability of few.
    few = lost if alternative == "greater" else min(gained, lost)
    tail = float(bdtr(few, gained + lost, 0.5))
    return tail if alternative == "greater" else min(1.0, 2 * tail)


def paired_difference(difference: float, discordant: float, images: int, *, quantile: float = Z) -> tuple[float, float]:
    """Interval of the difference of two accuracies on the same images, fractions in [-1, 1].

    difference: right answers of the one minus those of the other. discordant: images that exactly one of the two got
    right. A number that is too high is allowed: it only widens the interval. So the number of images on which two
    classifiers name different classes is enough, and true labels are not needed. Both may be means over seeds.
    quantile: of the normal distribution; `ONE_SIDED` makes each of the two a bound at 95% by itself.

        p = difference / (n + 2),  q = (discordant + 2) / (n + 2),  p -+ z sqrt((q - p^2) / (n + 2))

    Source: Bonett and Price 2012, doi:10.3102/1076998611411915; recommended by Fagerland, Lydersen and Laake 2014,
    doi:10.1002/sim.6148. Raises ValueError unless |difference| <= discordant <= images, images > 0.
    """
    if not abs(difference) <= discordant <= images or images == 0:
        raise ValueError(
            f"difference, discordant and images must be ordered by size, got {difference}, {discordant} and {images}"
        )
    n = images + 2
    p, q = difference / n, (discordant + 2) / n
    half = quantile * math.sqrt((q - p**2) / n)
    return max(-1.0, p - half), min(1.0, p + half)


def largest_drop(lost: int, won: int, images: int) -> float:
    """The one-sided 95% bound of the accuracy that one classifier loses against another on the same images.

    lost, won: images that only the other one, or only the one, got right. The larger of Bonett and Price's bound
    (`paired_difference`), which is too small where hardly an image differs, and of Clopper and Pearson's for the net
    loss, which is exact where none can be won. Source: Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    from scipy.special import betaincinv

    net = max(0, lost - won)
    exact = 1.0 if net == images else float(betaincinv(net + 1, images - net, CONFIDENCE))
    return max(exact, paired_difference(lost - won, lost + won, images, quantile=ONE_SIDED)[1])


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """Pairs of independent bootstrap resamples of whole windows. A pair simulates two sessions.

    The calls of one window share their place in memory and the load of the machine, and are not independent.
    ways: int64 (ways, windows), how often each window is in each distinct resample: five windows can be drawn in only
    126 ways. which: int64 (2, pairs), the way of each resample.
    """

    ways: Integers
    which: Integers

    def interval(self, estimates: Floats) -> tuple[float, float]:
        """The 95% prediction interval of another session's estimate, less this one's: (below 0, above 0).

        A 95% confidence interval of the true value holds a second estimate only 83% of the time, since the difference
        of two estimates scatters sqrt(2) times as far as each of them. A figure that is reported is checked by a
        second session.

        estimates: (ways,). A few windows underestimate their spread: it is widened by sqrt(n / (n - 1)), which makes
        the bootstrap's variance unbiased, and by Student's t over the normal quantile.
        """
        windows = self.ways.shape[1]
        first, second = estimates[self.which]
        widened = (second - first) * math.sqrt(windows / (windows - 1)) * approximate_t_quantile(windows - 1) / Z
        low, high = np.quantile(widened, (0.025, 0.975))
        return float(low), float(high)


@cache
def resamples(windows: int, *, seed: int, pairs: int = PAIRS) -> Resamples:
    """Pairs of resamples, the same for each model of a session. Raises ValueError for a single window."""
    if windows < 2:
        raise ValueError(f"there must be at least two windows, got {windows}: measure in more")
    drawn = np.random.default_rng(seed).integers(0, windows, (2 * pairs, windows))
    counts = np.stack([(drawn == one).sum(axis=1) for one in range(windows)], axis=1)
    ways, which = np.unique(counts, axis=0, return_inverse=True)
    return Resamples(ways=ways, which=which.reshape(2, pairs))


def repeat_interval(by_window: Floats, *, seed: int, pairs: int = PAIRS) -> tuple[float, float]:
    """The 95% prediction interval of another session's mean over its windows, less this one's: (below 0, above 0).

    by_window: (windows,), each window's own estimate, such as the log of its median.
    Raises ValueError for fewer than two windows.
    """
    if by_window.ndim != 1:
        raise ValueError(f"by_window must be (windows,), got {by_window.shape}: give one estimate for each window")
    drawn = resamples(len(by_window), seed=seed, pairs=pairs)
    return drawn.interval(drawn.ways @ by_window / len(by_window))


def approximate_t_quantile(degrees: int) -> float:
    """The 97.5% quantile of Student's t without SciPy, within 2% from 4 degrees of freedom on.

    Source: Cornish-Fisher expansion, Abramowitz and Stegun 26.7.5.
    """
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    return Z + first / degrees + second / degrees**2
