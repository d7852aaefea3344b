"""Finds what a technique or the converter does not take in a model from a file, before anything is trained."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.datasets.base import Split
from pipelines.execution.export import export
from pipelines.models.keras_layers import UnsupportedLayerError
from pipelines.system import guard
from pipelines.techniques.base import EffectError
from pipelines.training.trainer import Trainer

if TYPE_CHECKING:
    from pipelines.techniques.base import Candidate, Technique

MAX_REASON = 200
# Of each split, for a rehearsal.
IMAGES = 32


class _Idle(Trainer):
    """Trains nothing. steps: in an epoch of the training that it stands for. fits: how often it was asked to."""

    steps: int = 1
    fits: int = 0

    @property
    def steps_per_epoch(self) -> int:
        return self.steps

    def fit(self, model: Any, **settings: Any) -> None:  # noqa: ARG002 (the trainer's signature)
        self.fits += 1


def rehearse(
    technique: Technique,
    optimize: Callable[[Trainer], Candidate],
    trainer: Trainer,
    *,
    verify: bool = False,
    own: bool = False,
) -> None:
    """Apply a technique without training and, if it would train, convert what comes out.

    optimize: builds the network and applies the technique. verify: also convert and verify what is not trained. What
    holds before a training is verified in any case. own: whether the model's class is a person's own.
    Raises ValueError with the layer's name and kind, EffectError where the verification fails.
    """
    given = {name: getattr(trainer, name) for name in ("settings", "dataset", "seed")}
    # A technique may compute something of all images before it trains.
    data = replace(trainer.data, train=_few(trainer.data.train), validation=_few(trainer.data.validation))
    idle = _Idle(**given, data=data, on_epoch=lambda *_: None)
    idle.steps = trainer.steps_per_epoch
    try:
        candidate = optimize(idle)
    except EffectError:
        return  # the effect comes with the training, and the converter has taken the baseline's layers
    # A full disk or too little memory is no fault of the model.
    except (UnsupportedLayerError, OSError, MemoryError):
        raise
    except Exception as error:
        refusal = isinstance(error, ValueError) and guard.is_refusal(error)
        # A fault in a person's own class is told with its traceback.
        if type(error).__name__ == "ResourceExhaustedError" or (own and not refusal):
            raise
        reason = str(error) if refusal else _reason(error)
        named = reason.startswith(technique.name)
        raise ValueError(reason if named else f"{technique.name} does not take this model: {reason}") from error
    if not idle.fits and not verify:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        with named_layers(technique.name, candidate):
            export(candidate, trainer.data, path)
        if not idle.fits:
            technique.verify(candidate, path)
            return
        _check_saves(candidate.model, Path(folder) / "checkpoint.keras")
        if technique.last.HOLDS_UNTRAINED:
            technique.last.verify(candidate, path)


def _check_saves(model: Any, path: Path) -> None:
    """Raise ValueError with the layer's name where Keras cannot save the network, as it must after the training."""
    try:
        model.save(path)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        layer = next((one for one in model.layers if not _has_config(one)), None)
        where = "the network" if layer is None else f"layer {layer.name} of kind {type(layer).__name__}"
        raise ValueError(
            f"Keras must be able to save {where}, got {_reason(error)}: give its class a get_config() that returns all "
            "arguments of its constructor"
        ) from error


def _has_config(layer: Any) -> bool:
    try:
        layer.get_config()
    except Exception:  # noqa: BLE001 (whatever a person's own layer raises)
        return False
    return True


def _few(split: Split) -> Split:
    return Split(images=split.images[:IMAGES], labels=split.labels[:IMAGES])


@contextmanager
def named_layers(technique: str, candidate: Candidate) -> Iterator[None]:
    """Turn an error of the converter into a ValueError that names the layer."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        layer = _refused(candidate.model, str(error))
        where = "the model" if layer is None else f"layer {layer.name} of kind {type(layer).__name__}"
        raise ValueError(
            f"{technique}: TensorFlow Lite cannot convert {where} ({_reason(error)}): replace it in the model by "
            "layers of other kinds, or choose another technique"
        ) from error


@contextmanager
def named_failure(technique: str) -> Iterator[None]:
    """Turn an error of a technique that rewrites a file into a ValueError; refusals of opscore's own pass."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, ValueError) and guard.is_refusal(error):
            raise
        raise ValueError(
            f"{technique} cannot rewrite the exported model ({_reason(error)}): choose another technique"
        ) from error


def _refused(model: Any, text: str) -> Any:
    """The first layer with an operation that the converter's message names; None if it names none."""
    import tensorflow as tf

    kinds = set(re.findall(r"'tf\.(\w+)' op", text))
    function = tf.function(model).get_concrete_function(tf.TensorSpec((1, *model.input_shape[1:]), tf.float32))
    parts = [set(one.name.split("/")) for one in function.graph.get_operations() if one.type in kinds]
    return next((layer for names in parts for layer in model.layers if layer.name in names), None)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {guard.first_line(error)[:MAX_REASON] or 'no reason given'}"
