"""Transfer learning: the pretrained backbone stays as it is, the head is trained.

Source: Yosinski et al. 2014, arXiv:1411.1792; Keras guide "Transfer learning and fine-tuning".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipelines import checks
from pipelines.techniques.base import Candidate, Context, EffectError, Technique

if TYPE_CHECKING:
    from pipelines.models.base import Model


@dataclass(frozen=True, kw_only=True)
class Transfer(Technique):
    """Train the head on a frozen backbone: less training time, and usually less accuracy than the baseline.

    epochs: whole number of at least 1, or None for the training's own. learning_rate: above 0; a fresh head
    takes a higher one than fine-tuning.
    """

    epochs: int | None
    learning_rate: float

    def __post_init__(self) -> None:
        """Check every field."""
        if self.epochs is not None:
            checks.whole("technique.epochs", self.epochs, least=1)
        checks.number("technique.learning_rate", self.learning_rate, above=0)

    @property
    def name(self) -> str:
        """`transfer`."""
        return "transfer"

    @property
    def origin(self) -> None:
        """Starts from the model's own, pretrained weights."""

    def preflight(self, model: Model) -> None:
        """A frozen backbone must have learnt something."""
        if model.weights is None:
            raise ValueError(
                f"transfer needs pretrained weights, got model.weights=null for {model.name}: set model.weights to "
                "imagenet or a file where the model has them, or technique=baseline"
            )

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Fit the head. Raises EffectError if a frozen weight moved or none of the head's did."""
        model = candidate.model
        backbone = [layer for layer in model.layers if not layer.name.startswith("head_")]
        before = [layer.get_weights() for layer in model.layers]
        for layer in backbone:
            layer.trainable = False
        try:
            context.trainer.fit(model, epochs=self.epochs, learning_rate=self.learning_rate)
        finally:
            # The checkpoint is an ordinary model: what starts from it decides anew what to train.
            for layer in backbone:
                layer.trainable = True
        for layer, old in zip(model.layers, before, strict=True):
            moved = any(not np.array_equal(a, b) for a, b in zip(old, layer.get_weights(), strict=True))
            if moved and layer in backbone:
                raise EffectError(f"layer {layer.name} was to stay frozen and has changed")
            if old and not moved and layer not in backbone:
                raise EffectError(f"layer {layer.name} was to be trained and has not changed")
        return candidate
