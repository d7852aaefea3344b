"""Another trained cell that a technique learns from: a donor of layers, or a teacher."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipelines.datasets.base import Dataset
from pipelines.models.base import Model
from pipelines.techniques.base import Technique

_RUN = re.compile(r"runs:/[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A cell by its parts, or by its run.

    model, dataset: the source's baseline is meant, trained first where the store lacks it; what is None is the cell's
    own. uri: `runs:/<run id>` of a recorded cell that has a checkpoint, with whatever technique, instead of the two.
    """

    model: Model | None
    dataset: Dataset | None
    uri: str | None

    def __post_init__(self) -> None:
        """Check every field; whether a cell is named at all is asked by `check_named`."""
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

    def check_named(self) -> None:
        """Raise ValueError unless a cell is named, in one way."""
        parts = self.model is not None or self.dataset is not None
        if parts == (self.uri is not None):
            raise ValueError(
                "technique.source must name a cell by its model, its dataset or both, or else by its uri, got "
                + ("both" if parts else "none of them")
                + ": for example model@technique.source.model=vgg16"
            )


@dataclass(frozen=True, kw_only=True)
class Learner(Technique):
    """Trains from the model's own weights with the help of another trained cell, its `source`."""

    source: Source

    @property
    def parent(self) -> None:
        """Starts from the model's own weights; a donor's are put over them."""

    @property
    def learns_from(self) -> Source:
        """The source."""
        return self.source
