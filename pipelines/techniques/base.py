"""What every technique is, and the chain that composes them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import tf_keras

    from pipelines.models.base import Model
    from pipelines.training import Trainer

Quantization = Literal["float32", "dynamic", "float16", "int8", "int16x8"]


class EffectError(RuntimeError):
    """A technique did not do to the artifact what it is for."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How a Keras model becomes an artifact; calibration_images are taken from the training split."""

    quantization: Quantization = "float32"
    calibration_images: int = 0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a technique transforms: a model, and how it is to be converted."""

    model: tf_keras.Model
    conversion: Conversion = field(default_factory=Conversion)


@dataclass(frozen=True, kw_only=True)
class Technique(ABC):
    """One way to make a model fit for operation."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The word on the command line, for example `quantize_int8`."""

    @property
    @abstractmethod
    def origin(self) -> Technique | None:
        """The technique whose trained model this one starts from; None starts from the model's own weights."""

    @abstractmethod
    def apply(self, candidate: Candidate, trainer: Trainer) -> Candidate:
        """Transform the candidate. A model that is changed is changed in place; the caller owns it."""

    def preflight(self, model: Model) -> None:  # noqa: B027 (most techniques take every model)
        """Raise ValueError where this technique cannot do anything for `model`; no TensorFlow."""

    def verify(self, artifact: Path) -> None:  # noqa: B027 (a plain training promises nothing of the file)
        """Raise EffectError where the artifact lacks what this technique is for."""


@dataclass(frozen=True, kw_only=True)
class Chain(Technique):
    """Techniques one after the other, `steps` in the order of the yaml.

    If the first step trains from the model's own weights, the chain starts from that step's cell instead of
    repeating it: `transfer` then `quantize_int8` quantizes the model of the `transfer` cell.
    """

    steps: Mapping[str, Technique]

    def __post_init__(self) -> None:
        """Check that there is something to chain."""
        if len(self.steps) < 2:
            raise ValueError(
                f"a chain needs at least 2 steps, got {list(self.steps)}: use the technique itself, or add a step"
            )
        for name, step in list(self.steps.items())[1:]:
            if step.origin is None:
                raise ValueError(f"{name} trains from the model's own weights and must be the first step, got it later")

    @property
    def name(self) -> str:
        """The steps' names, joined."""
        return "_".join(step.name for step in self.steps.values())

    @property
    def origin(self) -> Technique | None:
        """The first step where it trains from the model's own weights, else that step's own origin."""
        first = next(iter(self.steps.values()))
        return first if first.origin is None else first.origin

    def apply(self, candidate: Candidate, trainer: Trainer) -> Candidate:
        """Fold the candidate through the steps that follow the origin."""
        for step in self._following():
            candidate = step.apply(candidate, trainer)
        return candidate

    def preflight(self, model: Model) -> None:
        """Every step must take the model."""
        for step in self.steps.values():
            step.preflight(model)

    def verify(self, artifact: Path) -> None:
        """Every step's effect must have survived to the artifact."""
        for step in self.steps.values():
            step.verify(artifact)

    def _following(self) -> list[Technique]:
        return [step for step in self.steps.values() if step.origin is not None]
