"""A trained cell that a technique needs: a donor of layers, or a teacher."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipelines.datasets.base import Dataset
from pipelines.models.base import Model
from pipelines.techniques.base import Technique

_RUN = re.compile(r"runs:/[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A cell named by its parts, or by its run.

    model, dataset: name a baseline, trained first if the store lacks it; None means the cell's own. uri: `runs:/<run
    id>` of a recorded cell of any technique that has a checkpoint, instead of the two.
    """

    model: Model | None
    dataset: Dataset | None
    uri: str | None

    def __post_init__(self) -> None:
        """Check every field; `check_named` checks that a cell is named."""
        for name, part, kind in (("model", self.model, Model), ("dataset", self.dataset, Dataset)):
            if part is not None and not isinstance(part, kind):
                raise ValueError(
                    f"technique.source.{name} must be a {name} of conf/{name}, got {part!r}: "
                    f"write {name}@technique.source.{name}={part}"
                )
        if self.uri is not None and not (isinstance(self.uri, str) and _RUN.fullmatch(self.uri)):
            raise ValueError(
                f"technique.source.uri must be runs:/ and a run's id of 32 hexadecimal digits, got {self.uri!r}: copy "
                "the id from MLflow's page of the run"
            )

    def check_named(self, field: str = "technique.source") -> None:
        """Raise ValueError unless a cell is named, in one way. field: the name of this part in the configuration."""
        parts = self.model is not None or self.dataset is not None
        if parts == (self.uri is not None):
            raise ValueError(
                f"{field} must name a cell by its model, its dataset or both, or else by its uri, got "
                f"{'both' if parts else 'none of them'}: for example model@{field}.model=vgg16"
            )


@dataclass(frozen=True, kw_only=True)
class SourceTechnique(Technique):
    """Trains from the model's own weights with the help of a teacher or donor, its `source`."""

    source: Source
    parent = None

    @property
    def source_cell(self) -> Source:
        """The source."""
        return self.source
