"""95% confidence intervals of accuracies: of one, of the mean over seeds, and of a difference."""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

Z = NormalDist().inv_cdf(0.975)


def wilson(correct: float, images: int) -> tuple[float, float]:
    """The score interval of a share, within 0 and 1. Source: Wilson 1927, doi:10.1080/01621459.1927.10502953."""
    share, spread = correct / images, Z**2 / images
    centre = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / images + spread / (4 * images))
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_share(shares: Sequence[float], images: int) -> tuple[float, float]:
    """Interval of the mean m of at least two shares, each found on the same `images` images; within 0 and 1.

    What seeds scatter, by Student's t on the logit scale, where a share has no bounds to be exceeded:

        logit(m) -+ t(n - 1) s / (sqrt(n) m (1 - m)),  turned back into shares

    It is at least as wide as Wilson's for m, as seeds that agree by chance say nothing of other images than these.
    images: 0 where it is not known. Source of the scale: Korn and Graubard 1999, Analysis of Health Surveys, 2.4.
    """
    from scipy.special import expit, logit, stdtrit

    mean, error = fmean(shares), stdev(shares) / math.sqrt(len(shares))
    low, high = wilson(mean * images, images) if images else (mean, mean)
    if error and 0 < mean < 1:
        half = float(stdtrit(len(shares) - 1, 0.975)) * error / (mean * (1 - mean))
        low, high = min(low, float(expit(logit(mean) - half))), max(high, float(expit(logit(mean) + half)))
    return low, high


def paired_difference(difference: int, discordant: int, images: int) -> tuple[float, float]:
    """Interval of the difference of two accuracies on the same images, fractions in [-1, 1].

    difference: right answers of the one minus those of the other. discordant: images that exactly one of the two got
    right. It may be taken too high, never too low: the interval then only gets wider. So the number of images on which
    two classifiers name different classes will do, and true labels are not needed.

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
    half = Z * math.sqrt((q - p**2) / n)
    return max(-1.0, p - half), min(1.0, p + half)
