"""The base class of techniques that fine-tune the baseline."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipelines.system import checks
from pipelines.techniques.base import Technique
from pipelines.techniques.baseline import Baseline


@dataclass(frozen=True, kw_only=True)
class FineTuning(Technique):
    """Starts from the baseline's trained model and fine-tunes it.

    epochs: at least 1, None for the training's own. learning_rate: above 0.
    """

    parent = Baseline()

    epochs: int | None
    learning_rate: float

    def __post_init__(self) -> None:
        if self.epochs is not None:
            checks.integer("technique.epochs", self.epochs, minimum=1)
        checks.number("technique.learning_rate", self.learning_rate, exclusive_minimum=0, example=1e-3)

    def with_epochs(self, epochs: int) -> Technique:
        """With these epochs, unless it has its own."""
        return replace(self, epochs=self.epochs or epochs)
