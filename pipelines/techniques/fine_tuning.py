"""What the techniques share that train the baseline on."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.system import checks
from pipelines.techniques.base import Technique
from pipelines.techniques.baseline import Baseline


@dataclass(frozen=True, kw_only=True)
class FineTuning(Technique):
    """Starts from the baseline's trained model and trains it on.

    epochs: at least 1, None for the training's own. learning_rate: above 0.
    """

    epochs: int | None
    learning_rate: float

    def __post_init__(self) -> None:
        """Check the shared fields."""
        if self.epochs is not None:
            checks.integer("technique.epochs", self.epochs, minimum=1)
        checks.number("technique.learning_rate", self.learning_rate, exclusive_minimum=0)

    @property
    def parent(self) -> Technique:
        """The baseline's trained model."""
        return Baseline()
