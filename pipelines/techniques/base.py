"""What every technique is, and the chain that composes them."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import tf_keras

    from pipelines.models.base import Model
    from pipelines.results.folder import Finished
    from pipelines.techniques.source import Source
    from pipelines.training.trainer import Trainer

# Columns of equal length, by name.
Table = Mapping[str, Sequence[Any]]

# Builds a network.
Build = Callable[[], "tf_keras.Model"]

Quantization = Literal["float32", "dynamic", "float16", "int8", "int16x8"]


class EffectError(RuntimeError):
    """A technique did not do to the exported model what it is for."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How a Keras model becomes an exported model; calibration_images are taken from the training split."""

    quantization: Quantization = "float32"
    calibration_images: int = 0


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a technique transforms: a model, and how it is to be converted.

    model: the plain float network; its layers keep their names through every technique. emulated: the same network
    with emulated quantization and learnt ranges, from which the exported model is then converted instead. metrics,
    tables: what the technique has to tell beyond what every cell records, by name in MLflow
    (`transfer/parameters_share`).
    """

    model: tf_keras.Model
    conversion: Conversion = field(default_factory=Conversion)
    fake_quantized: tf_keras.Model | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a technique works with.

    source: the finished cell of `Technique.learns_from`. baseline: the finished cell that this one is compared with;
    None for a baseline. report: prints a line of progress.
    """

    trainer: Trainer
    source: Finished | None = None
    baseline: Finished | None = None
    report: Callable[[str], None] = print


@dataclass(frozen=True, kw_only=True)
class Technique(ABC):
    """One way to make a model fit for operation.

    NAME: the word on the command line, which is the stem of the yaml too. EFFECT: what `verify` looks for in the
    exported model and does not find in the baseline's, as a phrase; None where the technique only trains, so that
    nothing in the file shows whether it was used: `apply` then checks what it did.
    """

    NAME: ClassVar[str]
    EFFECT: ClassVar[str | None]

    def __init_subclass__(cls) -> None:
        """Raise TypeError where a technique has no name, or promises an effect that it does not verify."""
        super().__init_subclass__()
        if getattr(cls.apply, "__isabstractmethod__", False):
            return  # not a technique yet: it holds what several share
        for constant, example in (("NAME", '"round_weights"'), ("EFFECT", "None")):
            if not hasattr(cls, constant):
                raise TypeError(
                    f"{cls.__name__}.{constant} must be given, got nothing: write for example {constant} = {example}"
                )
        if cls.EFFECT is not None and cls.verify is Technique.verify:
            raise TypeError(
                f"{cls.__name__}.verify must look for the EFFECT {cls.EFFECT!r}, got no verify: write one, or set "
                "EFFECT = None where the exported model cannot show it"
            )

    @property
    def name(self) -> str:
        """NAME, and what tells the variants of one class apart."""
        return self.NAME

    @property
    def summary(self) -> str:
        """What the technique does: the first sentence of the class's docstring."""
        first, *_ = (inspect.getdoc(type(self)) or "").split("\n\n")
        return re.split(r"(?<=\.)\s", first.replace("\n", " "))[0]

    @property
    @abstractmethod
    def parent(self) -> Technique | None:
        """The technique whose trained model this one starts from; None starts from the model's own weights."""

    @property
    def learns_from(self) -> Source | None:
        """Another trained cell that is learnt from, beside the one that is started from; None for most."""
        return None

    @abstractmethod
    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Transform the candidate. The caller owns the model: it may be changed in place or replaced."""

    def preflight(self, model: Model) -> None:  # noqa: B027 (most techniques take every model)
        """Raise ValueError where this technique cannot do anything for `model`; no TensorFlow."""

    def check_source(self, model: Build, source: Build) -> None:  # noqa: B027 (most learn from any network)
        """Raise ValueError where the network cannot learn from its source, before either is trained.

        model, source: build the networks, with random weights.
        """

    def verify(self, candidate: Candidate, exported_model: Path) -> None:  # noqa: B027 (nothing to do where EFFECT is None)
        """Raise EffectError where the exported model, exported from `candidate`, lacks EFFECT."""


@dataclass(frozen=True, kw_only=True)
class Chain(Technique):
    """Techniques one after the other, `steps` in the order of the yaml.

    A chain starts from the cell of all its steps but the last instead of repeating them: `prune_quantize_int8`
    quantizes the network of the `prune` cell, `pcqat` trains that of the `prune_cluster` cell on.
    alias: the chain's name where it has one of its own, such as `pqat`; None joins the steps' names.
    """

    steps: Mapping[str, Technique]
    alias: str | None = None

    NAME = "chain"
    EFFECT = "every step's"

    def __post_init__(self) -> None:
        """Check that there is something to chain."""
        if len(self.steps) < 2:
            raise ValueError(
                f"a chain needs at least 2 steps, got {list(self.steps)}: use the technique itself, or add a step"
            )
        for name, step in list(self.steps.items())[1:]:
            if step.parent is None:
                raise ValueError(f"{name} trains from the model's own weights and must be the first step, got it later")

    @property
    def name(self) -> str:
        """The alias, else the steps' names, joined."""
        return self.alias or "_".join(step.name for step in self.steps.values())

    @property
    def summary(self) -> str:
        """The steps in order."""
        return ", then ".join(f"`{step.name}`" for step in self.steps.values())

    @property
    def parent(self) -> Technique:
        """All steps but the last."""
        *before, _ = self.steps.items()
        return before[0][1] if len(before) == 1 else Chain(steps=dict(before))

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Apply the last step."""
        *_, last = self.steps.values()
        return last.apply(candidate, context)

    def preflight(self, model: Model) -> None:
        """Every step must take the model."""
        for step in self.steps.values():
            step.preflight(model)

    def check_source(self, model: Build, source: Build) -> None:
        """Each step's check."""
        for step in self.steps.values():
            step.check_source(model, source)

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """Every step's effect must have survived to the artifact."""
        for step in self.steps.values():
            step.verify(candidate, exported_model)
