"""The 95% confidence interval of a difference of accuracies, from counts alone."""

import math
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)


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
