"""Accuracy of logits, in pure numpy. Among equal logits the lower class ranks first."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.results import agreement

Logits = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer[Any]]


def accuracy(logits: Logits, labels: Labels) -> float:
    """Fraction of images whose largest logit is that of their label, in [0, 1].

    logits: (n, classes), finite; labels: integers (n,) from 0 to classes-1; ValueError otherwise.
    """
    return top_k_accuracy(logits, labels, k=1)


def top_k_accuracy(logits: Logits, labels: Labels, k: int = 5) -> float:
    """Fraction of images whose label is among the k largest logits, in [0, 1]; k may exceed the number of classes."""
    _check(logits, labels)
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}: set k=5")
    own = np.take_along_axis(logits, labels[:, np.newaxis], axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, np.newaxis]
    rank = ((logits > own) | ((logits == own) & earlier)).sum(axis=1)
    return float((rank < k).mean())


def confusion_matrix(logits: Logits, labels: Labels, classes: int) -> npt.NDArray[np.int64]:
    """Numbers of images, int64 (classes, classes): rows are true classes, columns predicted ones."""
    _check(logits, labels)
    if logits.shape[1] != classes:
        raise ValueError(f"logits must have {classes} columns, got {logits.shape[1]}: pass classes accordingly")
    return agreement.confusion_matrix(logits.argmax(axis=1), labels, classes)


def _check(logits: Logits, labels: Labels) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.size == 0:
        raise ValueError(
            f"logits must be (n, classes) and labels (n,) with n of at least 1, got {logits.shape} and "
            f"{labels.shape}: pass one label per row"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels must be integers from 0 to {logits.shape[1] - 1}, got {labels.dtype} from "
            f"{labels.min()} to {labels.max()}: check that model and dataset have the same classes"
        )
    if bad := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise ValueError(
            f"logits must be finite, got {bad} of {len(logits)} images with NaN or infinity: "
            f"lower the learning rate, or check the technique's conversion"
        )
