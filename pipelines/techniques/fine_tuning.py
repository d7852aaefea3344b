"""The base class of techniques that fine-tune the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.system import checks
from pipelines.techniques.base import Technique
from pipelines.techniques.baseline import Baseline

if TYPE_CHECKING:
    from pipelines.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class FineTuning(Technique):
    """Starts from the baseline's trained model and fine-tunes it.

    epochs: at least 1, None for `training.fine_tuning_epochs`, else the training's own. learning_rate: above 0.
    """

    parent = Baseline()

    epochs: int | None
    learning_rate: float

    def __post_init__(self) -> None:
        if self.epochs is not None:
            checks.integer("technique.epochs", self.epochs, minimum=1)
        checks.number("technique.learning_rate", self.learning_rate, exclusive_minimum=0)

    def epochs_with(self, trainer: Trainer) -> int:
        """The number of epochs that it takes with a trainer."""
        return self.epochs or trainer.settings.fine_tuning_epochs or trainer.settings.epochs
