"""Batch normalization for a few short epochs, in which Keras's moving statistics are too slow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tf_keras

# Weight of the statistics from before an epoch at its end.
MAX_REMAINDER = 0.01
# Minimum number of steps to average over, or few batches would decide: a momentum of 0.9.
MIN_STATISTICS_STEPS = 44


def momentum_for(steps_per_epoch: int, epochs: int) -> float:
    """The largest momentum of batch normalization that forgets older statistics within an epoch, or the whole training.

    Each epoch ends with a validation, whose accuracy stops the training and chooses its weights. With Keras's momentum
    of 0.99, the initial statistics, 0 and 1, keep a weight of 57% after 57 steps: EfficientNet-B0 then predicts one
    class for all images, and its training stops for lack of progress.
    """
    return float(MAX_REMAINDER ** (1 / min(max(steps_per_epoch, MIN_STATISTICS_STEPS), steps_per_epoch * epochs)))


@contextmanager
def adapted(model: tf_keras.Model, momentum: float) -> Iterator[None]:
    """A context that limits the momentum of the model's batch normalizations to `momentum`.

    After a change of weights, above all by pruning, predictions are random until the moving statistics have caught up.
    """
    # Wrappers hold theirs in `layer`, and a model that is trained by a step of its own the network.
    before = {one: one.momentum for one in model.submodules if type(one).__name__ == "BatchNormalization"}
    for layer, own in before.items():
        layer.momentum = min(own, momentum)
    try:
        yield
    finally:
        for layer, own in before.items():
            layer.momentum = own
