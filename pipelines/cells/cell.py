"""A cell, the unit of work: one model x dataset x technique x seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from pipelines.datasets.base import Dataset
from pipelines.litert.session import Settings
from pipelines.models.base import Model
from pipelines.results.score import OperationalScore
from pipelines.system import checks
from pipelines.techniques.base import Technique
from pipelines.techniques.baseline import Baseline
from pipelines.training import precision
from pipelines.training.trainer import Training

# NumPy and TensorFlow take so many.
SEEDS = 2**32


class IncompatibleError(ValueError):
    """A technique refuses a model."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The checked configuration of one run.

    seed: an integer, at least 0 and below SEEDS. deterministic: two runs on the CPU of one machine give the same bits.
    """

    model: Model
    dataset: Dataset
    technique: Technique
    training: Training
    measurement: Settings
    score: OperationalScore
    seed: int
    deterministic: bool

    def __post_init__(self) -> None:
        """Check the cell's own fields, and that technique and model go together."""
        checks.integer("seed", self.seed, minimum=0)
        if self.seed >= SEEDS:
            raise ValueError(f"seed must be below {SEEDS} (2**32), got {self.seed}: set for example seed=0")
        checks.flag("deterministic", self.deterministic)
        if self.training.fine_tuning_epochs is not None:
            technique = self.technique.with_epochs(self.training.fine_tuning_epochs)
            object.__setattr__(self, "technique", technique)
        try:
            self.technique.preflight(self.model)
        except ValueError as error:
            raise IncompatibleError(str(error)) from error
        self.technique.check_source_named("technique")

    @property
    def name(self) -> str:
        """`resnet50-cifar10-quantize_int8`."""
        return f"{self.model.name}-{self.dataset.name}-{self.technique.name}"

    @property
    def tags(self) -> dict[str, str]:
        """Its names as MLflow's tags. Cells of one fingerprint may have different names."""
        return {"model": self.model.name, "dataset": self.dataset.name}

    @property
    def learning_rate(self) -> float:
        """The training's learning rate, or the model's own where that is null."""
        return self.training.learning_rate or self.model.learning_rate

    @property
    def precision(self) -> str:
        """Keras's dtype policy of the training from the model's own weights, on this machine; of the cell itself or of
        the one that it starts from, whose checkpoint is then trained on in float32.
        """
        gains = self.model.onednn and self.model.gains_by_bfloat16
        return precision.chosen(self.training.mixed_precision, gains=gains)

    @property
    def baseline(self) -> Cell | None:
        """The cell that this one is compared with; None for a baseline."""
        return None if isinstance(self.technique, Baseline) else replace(self, technique=Baseline())

    @property
    def parent(self) -> Cell | None:
        """The cell whose trained model this one starts from; None where it starts from the model's own weights."""
        return None if self.technique.parent is None else replace(self, technique=self.technique.parent)

    @property
    def source(self) -> Cell | None:
        """The teacher or donor cell; None where there is none, or a run id names it."""
        source = self.technique.source_cell
        if source is None or source.uri is not None:
            return None
        model, dataset = source.model or self.model, source.dataset or self.dataset
        return replace(self, model=model, dataset=dataset, technique=Baseline())

    @property
    def needs(self) -> dict[str, Cell]:
        """The cells that must be finished before this one, by their roles."""
        needs = {"source": self.source, "parent": self.parent, "baseline": self.baseline}
        return {role: cell for role, cell in needs.items() if cell is not None}


def describe(value: Any, *, determining: bool = False) -> Any:
    """A dataclass as nested dictionaries of plain values, each with its class under `_target_`.

    determining: leave out fields with the metadata `fingerprint: False`, which are only places.
    """
    if is_dataclass(value) and not isinstance(value, type):
        kept = [f for f in fields(value) if not determining or f.metadata.get("fingerprint", True)]
        target = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"_target_": target} | {f.name: describe(getattr(value, f.name), determining=determining) for f in kept}
    if isinstance(value, Mapping):
        return {str(key): describe(item, determining=determining) for key, item in value.items()}
    return value


def parts_of(cell: Cell) -> dict[str, Any]:
    """The description of a cell in the form that `conf/` composes."""
    return {name: part for name, part in describe(cell).items() if name != "_target_"}
