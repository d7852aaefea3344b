"""Batch normalization in trainings of a few short epochs, for which Keras's moving statistics are too slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tf_keras

# What may be left of the batch statistics before an epoch at its end.
FORGET = 0.01
# Over fewer steps than these, moving statistics would be those of a few batches: a momentum of 0.9.
MIN_STATISTICS_STEPS = 44


def momentum_for(steps_per_epoch: int, epochs: int) -> float:
    """The largest momentum of batch normalization that forgets what was before an epoch, or the whole training.

    Each epoch ends with a validation, whose accuracy stops the training and chooses its weights. By Keras's momentum of
    0.99, 57% of the first statistics, 0 and 1 of no layer in particular, are left after 57 steps: EfficientNet-B0
    then gives all images one answer, and its training is stopped as one without progress.
    """
    return float(FORGET ** (1 / min(max(steps_per_epoch, MIN_STATISTICS_STEPS), steps_per_epoch * epochs)))


@contextmanager
def adapted(model: tf_keras.Model, momentum: float) -> Iterator[None]:
    """Let the moving statistics of batch normalization follow at least as quickly as this momentum has it.

    A network whose weights have changed, by pruning above all, answers at random in inference until they have followed,
    whatever it has learnt.
    """
    layers = [getattr(layer, "layer", layer) for layer in model.layers]  # wrappers hold theirs in `layer`
    before = {layer: layer.momentum for layer in layers if type(layer).__name__ == "BatchNormalization"}
    for layer, own in before.items():
        layer.momentum = min(own, momentum)
    try:
        yield
    finally:
        for layer, own in before.items():
            layer.momentum = own
