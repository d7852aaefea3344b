"""The interface of every technique, and the chain that composes techniques."""

from __future__ import annotations

import inspect
import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pipelines.system import names

if TYPE_CHECKING:
    import numpy.typing as npt
    import tf_keras

    from pipelines.datasets.base import ImageData
    from pipelines.models.base import Model
    from pipelines.results.folder import Finished
    from pipelines.techniques.source import Source
    from pipelines.training.trainer import Trainer

ZEROS, SHARED_VALUES = "zeros", "shared values"
# Columns of equal length, by name.
Table = Mapping[str, Sequence[Any]]
Build = Callable[[], "tf_keras.Model"]


class EffectError(RuntimeError):
    """The exported model does not show the technique's effect."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The object that a technique transforms: a model, from which the exported model is made.

    model: the plain float network; its layers keep their names through every technique. fake_quantized: the same
    network with fake quantization and learnt ranges, converted instead of `model` if given. rewriting: what
    changes the exported model after its conversion. metrics, tables: results of the technique in addition to those
    of every cell, by name in MLflow (`transfer/parameters_share`).
    """

    model: tf_keras.Model
    rewriting: Rewriting | None = None
    fake_quantized: tf_keras.Model | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Context:
    """The environment of a technique.

    source: the finished cell of `Technique.source_cell`. baseline: the finished cell that this one is compared with;
    None for a baseline. trained: whether the model's weights are taken as they are (`Model.trained`). other_pixels: of
    the model. report: prints a line of progress.
    """

    trainer: Trainer
    source: Finished | None = None
    baseline: Finished | None = None
    trained: bool = False
    other_pixels: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    report: Callable[[str], None] = print


@dataclass(frozen=True, kw_only=True)
class Technique(ABC):
    """One way to make a model fit for operation.

    NAME: the word on the command line and the stem of the yaml. EFFECT: a phrase for the effect that `verify` finds in
    the exported model and not in the baseline's; None where the technique only trains, which leaves no trace in the
    file: `apply` then checks its own work.
    """

    NAME: ClassVar[str]
    EFFECT: ClassVar[str | None]
    # Whether its effect is there before its training already.
    HOLDS_UNTRAINED: ClassVar[bool] = False
    # Whether its exported model is of float32, so that another technique can go on from it.
    EXPORTS_FLOAT: ClassVar[bool] = True
    # What its effect is in the weights, where a later training may undo it, in words: ZEROS or SHARED_VALUES.
    LEAVES: ClassVar[str | None] = None

    def __init_subclass__(cls) -> None:
        """Raise TypeError where a technique has no name, or an effect that it does not verify."""
        super().__init_subclass__()
        work = (getattr(cls, name, None) for name in ("apply", "rewrite"))
        if any(getattr(one, "__isabstractmethod__", False) for one in work):
            return  # a base class of several techniques
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
        """NAME, extended where variants of one class need different names."""
        return self.NAME

    @property
    def summary(self) -> str:
        """The first sentence of the class's docstring."""
        first, *_ = (inspect.getdoc(type(self)) or "").split("\n\n")
        return re.split(r"(?<=\.)\s", first.replace("\n", " "))[0]

    @property
    @abstractmethod
    def parent(self) -> Technique | None:
        """The technique whose trained model this one starts from; None: from the model's own weights."""

    @property
    def last(self) -> Technique:
        """The technique that makes the exported model: of a chain its last step, else itself."""
        return self

    @property
    def source_cell(self) -> Source | None:
        """A teacher or donor: another trained cell that this one needs, in addition to `parent`; None for most."""
        return None

    def check_source_named(self, field: str) -> None:
        """Raise ValueError where a teacher or donor is not named. field: of this technique in the configuration."""
        if self.source_cell is not None:
            self.source_cell.check_named(f"{field}.source")

    def with_epochs(self, epochs: int) -> Technique:
        """With these epochs of fine-tuning, unless it has its own (`training.fine_tuning_epochs`)."""
        return self

    @abstractmethod
    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Transform the candidate. The caller owns the model: it may be changed in place or replaced."""

    def undoes(self, earlier: Technique) -> str | None:
        """What to change where its training would undo what an earlier step LEAVES; None where it would not."""
        return None

    def check_steps(self) -> None:  # noqa: B027 (most techniques are no chains)
        """Raise ValueError where parts of the technique undo each other. Recorded cells are read all the same."""

    def preflight(self, model: Model) -> None:  # noqa: B027 (most techniques take every model)
        """Raise ValueError where this technique has no effect on `model`; no TensorFlow."""

    def check_network(self, model: Build) -> None:  # noqa: B027 (most techniques work on every network)
        """Raise ValueError where these settings do not suit the network, before its baseline is trained.

        model: builds the network as it is before any technique, with random weights.
        """

    def check_source(self, model: Build, source: Build) -> None:  # noqa: B027 (most take any source)
        """Raise ValueError where the source does not fit the model, before either is trained.

        model, source: build the networks, with random weights.
        """

    def state(self, candidate: Candidate) -> Sequence[npt.NDArray[Any]] | None:
        """What `resumed` needs beside the network to make the candidate again; None where it cannot be made again."""
        return () if candidate.fake_quantized is None and candidate.rewriting is None else None

    def resumed(self, model: tf_keras.Model, state: Sequence[npt.NDArray[Any]]) -> Candidate:
        """The candidate of an attempt that ended after its training. model: its network. state: as `state` gave it."""
        return Candidate(model=model)

    def check_source_classes(self, own: Sequence[str], source: Sequence[str]) -> None:  # noqa: B027 (most take any)
        """Raise ValueError where the classes of a teacher or donor that is named by its run do not fit."""

    def verify(self, candidate: Candidate, exported_model: Path) -> None:  # noqa: B027 (nothing to do where EFFECT is None)
        """Raise EffectError where the exported model, exported from `candidate`, lacks EFFECT."""


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """A changed exported model.

    metrics, tables: as of `Candidate`. documents: what else is to be kept as JSON, by the file's name. notes: sentences
    that the result repeats.
    """

    flatbuffer: bytes
    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    documents: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Rewriting(Protocol):
    """Changes an exported model."""

    def rewrite(self, flatbuffer: bytes, data: ImageData, *, report: Callable[[str], None] = print) -> Rewritten:
        """As `FileTechnique.rewrite`."""


@dataclass(frozen=True, kw_only=True)
class FileTechnique(Technique):
    """A technique that changes the exported model of its parent and leaves the network as it is.

    A cell of it takes the file of the parent's cell: it neither loads a network nor converts one.
    """

    EXPORTS_FLOAT = False

    @abstractmethod
    def rewrite(self, flatbuffer: bytes, data: ImageData, *, report: Callable[[str], None] = print) -> Rewritten:
        """Change an exported model of float32. data: its training images may set ranges, its validation images may
        choose; the test images are never looked at. report: prints a line of progress.
        """

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Leave the network, and let the export rewrite the file."""
        return replace(candidate, rewriting=self)

    @abstractmethod
    def verify_file(self, exported_model: Path) -> None:
        """Raise EffectError where the exported model lacks EFFECT."""

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """As `verify_file`."""
        self.verify_file(exported_model)


@dataclass(frozen=True, kw_only=True)
class Chain(Technique):
    """Techniques applied one after another: `steps`, in the order of the yaml.

    A chain starts from the cell of all its steps but the last instead of repeating them: `prune_quantize_int8`
    quantizes the network of the `prune` cell, `pcqat` fine-tunes that of the `prune_cluster` cell.
    A chain that is a later step stands for its own steps.
    alias: a name for the chain, such as `pqat`; None joins the steps' names.
    """

    steps: Mapping[str, Technique]
    alias: str | None = None

    NAME = "chain"
    EFFECT = "every step's"

    def __post_init__(self) -> None:
        """Check the number and the order of the steps."""
        object.__setattr__(self, "steps", dict(_flat(self.steps)))
        if len(self.steps) < 2:
            raise ValueError(
                f"a chain needs at least 2 steps, got {list(self.steps)}: use the technique itself, or add a step"
            )
        if self.alias is not None and names.resolved("technique.alias", self.alias, "") == "baseline":
            raise ValueError(
                "technique.alias must be another name than 'baseline', with which others are compared: leave it out"
            )
        for name, step in list(self.steps.items())[:-1]:
            if not step.last.EXPORTS_FLOAT:
                raise ValueError(f"{name} quantizes the exported model and must be the last step, got an earlier one")
        for name, step in list(self.steps.items())[1:]:
            if step.parent is None:
                raise ValueError(
                    f"{name} trains from the model's own weights and must be the first step, got a later one"
                )

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

    @property
    def last(self) -> Technique:
        """The last step."""
        return list(self.steps.values())[-1].last

    def with_epochs(self, epochs: int) -> Technique:
        """Every step's."""
        return replace(self, steps={name: step.with_epochs(epochs) for name, step in self.steps.items()})

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Apply the last step. What it says of its own settings has their names in the chain."""
        name, step = list(self.steps.items())[-1]
        with _settings_of(name):
            return step.apply(candidate, context)

    def check_source_named(self, field: str) -> None:
        """Check every step."""
        for name, step in self.steps.items():
            step.check_source_named(f"{field}.steps.{name}")

    def check_steps(self) -> None:
        """Raise ValueError where the training of a step undoes what an earlier one leaves in the weights."""
        for (name, step), (later, other) in itertools.combinations(self.steps.items(), 2):
            for earlier in step.steps.values() if isinstance(step, Chain) else [step]:
                if (mend := other.undoes(earlier)) is not None:
                    raise ValueError(
                        f"{later} must keep the {earlier.LEAVES} of {name}, got settings by which its training undoes "
                        f"them: {_renamed(mend, later)}"
                    )

    def preflight(self, model: Model) -> None:
        """Every step must take the model."""
        for name, step in self.steps.items():
            with _settings_of(name):
                step.preflight(model)

    def check_network(self, model: Build) -> None:
        """Every step must suit the network."""
        for name, step in self.steps.items():
            with _settings_of(name):
                step.check_network(model)

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """The exported model must show every step's effect."""
        for step in self.steps.values():
            step.verify(candidate, exported_model)


def _flat(steps: Mapping[str, Technique]) -> Iterator[tuple[str, Technique]]:
    """The steps, those of a later chain in its place, by their names in the configuration."""
    for number, (name, step) in enumerate(steps.items()):
        if number and isinstance(step, Chain):
            yield from ((f"{name}.steps.{inner}", one) for inner, one in step.steps.items())
        else:
            yield name, step


@contextmanager
def _settings_of(step: str) -> Iterator[None]:
    """What a step says of its own settings has their names in the chain."""
    try:
        yield
    except (ValueError, FloatingPointError) as error:
        if type(error) not in (ValueError, FloatingPointError):
            raise
        raise type(error)(_renamed(str(error), step)) from error


def _renamed(text: str, step: str) -> str:
    return text.replace("technique.", f"technique.steps.{step}.")
