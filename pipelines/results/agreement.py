"""Agreement of answers with labels beyond accuracy, from a confusion matrix: chance, recall and precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Answers = npt.NDArray[np.integer[Any]]
Confusion = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Number = TypeVar("Number", float, Floats)


def confusion_matrix(answers: Answers, labels: Answers, classes: int) -> Confusion:
    """Numbers of images, int64 (classes, classes): rows are true classes, columns the answers.

    answers, labels: equally many integers (n,) from 0 to classes - 1.
    """
    cells = labels.astype(np.int64) * classes + answers
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def chance(confusion: Confusion) -> float:
    """The accuracy to be expected of random answers that name each class as often as the model does, in [0, 1].

        p_e = sum over classes of (share of the images) * (share of the answers)

    confusion: (classes, classes), rows are true classes; at least one image. On a test set with equally many images of
    each of C classes this is 1/C. Source: Cohen 1960, doi:10.1177/001316446002000104.
    """
    images = confusion.sum()
    return float(confusion.sum(axis=1) @ confusion.sum(axis=0) / images**2)


def kappa(accuracy: Number, by_chance: float) -> Number:
    """Cohen's kappa: the accuracy beyond `by_chance`, as a fraction of the most that is possible; 1 is perfect.

    It is 0 where chance alone is always right, which happens only if one class is all there is.
    """
    beyond: Number = accuracy * 0 if by_chance == 1 else (accuracy - by_chance) / (1 - by_chance)
    return beyond


def p_value(confusion: Confusion) -> float:
    """One-sided test that the answers agree with the labels more often than by chance, as kappa is 0 then.

    If labels a_i times class i were dealt at random to answers b_i times class i, the number X of agreements has

        E X = sum a_i b_i / n,  Var X = (sum a_i b_i (n - a_i) (n - b_i) + sum_{i != k} a_i b_i a_k b_k) / (n^2 (n - 1))

    The p-value is that of the normal distribution with a correction for continuity; of two classes it is Fisher's exact
    one; 1 for a constant answer and for a single image. Source: Hubert 1977, doi:10.1037/0033-2909.84.2.289.
    """
    labels, answers = confusion.sum(axis=1).astype(float), confusion.sum(axis=0).astype(float)
    met = np.flatnonzero(labels + answers)
    if len(met) == 2:
        return _fisher(confusion[np.ix_(met, met)])
    images, both = labels.sum(), labels * answers
    spread = both @ ((images - labels) * (images - answers)) + both.sum() ** 2 - both @ both
    if images < 2 or spread <= 0:
        return 1.0
    deviation = math.sqrt(spread / (images**2 * (images - 1)))
    return math.erfc((confusion.trace() - both.sum() / images - 0.5) / deviation / math.sqrt(2)) / 2


def _fisher(confusion: Confusion) -> float:
    """Of two classes: the probability of as many hits of the second, or more, if the answers are dealt at random."""
    from scipy.special import gammaln

    images, positives, answered = (int(one) for one in (confusion.sum(), confusion[1].sum(), confusion[:, 1].sum()))
    hits = np.arange(confusion[1, 1], min(positives, answered) + 1)

    def ways(total: int, chosen: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.asarray(gammaln(total + 1) - gammaln(chosen + 1) - gammaln(total - chosen + 1))

    logs = ways(positives, hits) + ways(images - positives, answered - hits) - ways(images, np.array(answered))
    return min(1.0, float(np.exp(logs).sum()))


def balanced_accuracy(confusion: Confusion) -> float:
    """The mean recall over the classes that occur. Source: Brodersen et al. 2010, doi:10.1109/ICPR.2010.764."""
    return float(np.nanmean(recall(confusion)))


def recall(confusion: Confusion) -> Floats:
    """The fraction of each class's images that is answered correctly, (classes,); NaN for a class without images."""
    return _shares(confusion, confusion.sum(axis=1))


def precision(confusion: Confusion) -> Floats:
    """The fraction of each class's answers that is correct, (classes,); NaN for a class that is never answered."""
    return _shares(confusion, confusion.sum(axis=0))


def by_class(confusion: Confusion, class_names: Sequence[str]) -> dict[str, list[Any]]:
    """A table with a row for each class: its name, test images, recall and precision, None where there is none."""
    return {
        "class": list(class_names),
        "test images": confusion.sum(axis=1).tolist(),
        "recall": [None if np.isnan(one) else float(one) for one in recall(confusion)],
        "precision": [None if np.isnan(one) else float(one) for one in precision(confusion)],
    }


def _shares(confusion: Confusion, counts: Confusion) -> Floats:
    shares: Floats = np.full(len(counts), np.nan)
    return np.divide(confusion.diagonal(), counts, out=shares, where=counts > 0)
