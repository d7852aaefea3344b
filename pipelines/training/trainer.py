"""Fitting a Keras model: optimizer, early stopping, progress, and the clock."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.system import checks, energy, stopwatch
from pipelines.training import batch_norm, precision
from pipelines.training.batches import training_batches, validation_batches
from pipelines.training.convolutions import quick_convolutions

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras

    from pipelines.datasets.base import Dataset, ImageData

OnEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of a training.

    epochs, batch_size, patience: whole numbers of at least 1. fine_tuning_epochs: of a technique that fine-tunes a
    trained network and names no epochs of its own; None for `epochs`. optimizer: `adam`, or `sgd` with momentum 0.9 by
    Nesterov. learning_rate: above 0, decayed to 0 along a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983); None
    takes the model's own (`Model.learning_rate`). warmup_fraction: fraction of the steps in which the rate rises
    linearly, in [0, 1): Adam's first steps are based on few gradients, and can move a deep plain network to where it
    does not learn (Goyal et al. 2017, arXiv:1706.02677; Liu et al. 2020, arXiv:1908.03265). mixed_precision: compute in
    half precision, float16 on a GPU and bfloat16 on a CPU; `auto` does so on a GPU, and on a CPU that has instructions
    for bfloat16 if the network trains faster that way (`Model.gains_by_bfloat16`). fast_convolutions: on a CPU, use
    faster operators (`pipelines/training/convolutions.py`). adapt_batch_norm: lower the momentum of batch normalization
    in short trainings (`pipelines/training/batch_norm.py`).
    """

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float | None
    warmup_fraction: float
    patience: int
    # What it comes to counts for a fingerprint, not how it was asked for.
    mixed_precision: str | bool = field(metadata={"fingerprint": False})
    fast_convolutions: bool = True
    adapt_batch_norm: bool = True
    # Counts in the techniques that it sets (`Technique.with_epochs`), not for the baseline.
    fine_tuning_epochs: int | None = field(default=None, metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            checks.integer(f"training.{name}", getattr(self, name), minimum=1)
        if self.fine_tuning_epochs is not None:
            checks.integer("training.fine_tuning_epochs", self.fine_tuning_epochs, minimum=1)
        checks.one_of("training.optimizer", self.optimizer, ("adam", "sgd"))
        if self.learning_rate is not None:
            checks.number("training.learning_rate", self.learning_rate, exclusive_minimum=0, example=1e-3)
        checks.fraction("training.warmup_fraction", self.warmup_fraction, zero=True)
        checks.one_of("training.mixed_precision", self.mixed_precision, ("auto", True, False))
        for name in ("fast_convolutions", "adapt_batch_norm"):
            checks.flag(f"training.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Batches for training and for validation: inputs and int64 labels (b,)."""

    training: tf.data.Dataset
    validation: tf.data.Dataset


@dataclass(kw_only=True)
class Trainer:
    """Fits models on one dataset and records the time and every epoch.

    settings: with a numeric learning rate. seconds: wall time of all training so far. joules: its energy by component,
    as far as the machine measures it (`pipelines/system/energy.py`). epochs: metrics of each epoch, in order.
    notes: what to know about the last fit, a sentence each.
    """

    settings: Training
    data: ImageData
    dataset: Dataset
    seed: int
    on_epoch: OnEpoch
    seconds: float = 0.0
    joules: dict[str, float] = field(default_factory=dict)
    epochs: list[dict[str, float]] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    # Seconds since the clock was started that no training took.
    _aside_s: float = 0.0

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return math.ceil(len(self.data.train) / self.settings.batch_size)

    def fit(
        self,
        model: tf_keras.Model,
        *,
        epochs: int | None = None,
        learning_rate: float | None = None,
        batches: Batches | None = None,
        callbacks: Sequence[tf_keras.callbacks.Callback] = (),
        keep_best: bool = True,
        rate_setting: str | None = None,
    ) -> None:
        """Train `model` in place and leave it with its best epoch's weights.

        epochs, learning_rate: replace the settings' own for this fit. batches: replace the dataset's own images.
        keep_best: False trains all epochs and keeps the last one's weights, for techniques that are complete only at
        the end, such as pruning. rate_setting: what `learning_rate` is called, if not `technique.learning_rate`.
        Raises FloatingPointError if the loss is not finite.
        """
        import tf_keras

        epochs = epochs or self.settings.epochs
        rate = learning_rate or self.settings.learning_rate
        rate_setting = rate_setting or f"{'technique' if learning_rate else 'training'}.learning_rate"
        assert rate is not None  # a cell sets its model's own
        batches = batches or self.batches()
        model.compile(
            optimizer=self._optimizer(rate, self.steps_per_epoch * epochs),
            loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        stop_early = _early_stopping(self.settings.patience)
        progress = _progress(epochs, self.steps_per_epoch, precision.used(model))
        with self.clock(), self.convolutions(), self._batch_norm(model, epochs):
            try:
                history = model.fit(
                    batches.training,
                    validation_data=batches.validation,
                    epochs=epochs,
                    verbose=0,
                    callbacks=[
                        progress,
                        _recorder(self, f"{rate_setting} (now {rate:g})"),
                        *([stop_early] if keep_best else []),
                        *callbacks,
                    ],
                )
            finally:
                progress.close()
        note = still_rising(history.history.get("val_accuracy", ()), epochs=epochs, images=len(self.data.validation))
        self.notes = (note,) if note else ()

    def batches(self) -> Batches:
        """The dataset's images, augmented for training."""
        return Batches(
            training=training_batches(self.data.train, self.dataset, self.settings.batch_size, self.seed),
            validation=validation_batches(self.data.validation, self.settings.batch_size),
        )

    @contextmanager
    def clock(self) -> Iterator[None]:
        """A context whose time counts as training. `fit` uses it by itself."""
        with energy.measure_energy(self.joules), stopwatch.part("train"):
            started, self._aside_s = time.perf_counter(), 0.0
            try:
                yield
            finally:
                self.seconds += time.perf_counter() - started - self._aside_s

    def report_metrics(self, metrics: dict[str, float]) -> None:
        """Keep an epoch and report it. A store that answers late is no training."""
        self.epochs.append(metrics)
        started = time.perf_counter()
        self.on_epoch(len(self.epochs), metrics)
        self._aside_s += time.perf_counter() - started

    def convolutions(self) -> AbstractContextManager[None]:
        """A context in which traced graphs use the convolutions of the settings."""
        return quick_convolutions() if self.settings.fast_convolutions else nullcontext()

    def _batch_norm(self, model: tf_keras.Model, epochs: int) -> AbstractContextManager[None]:
        if not self.settings.adapt_batch_norm:
            return nullcontext()
        return batch_norm.adapted(model, batch_norm.momentum_for(self.steps_per_epoch, epochs))

    def _optimizer(self, rate: float, steps: int) -> Any:
        import tf_keras

        schedule = _schedule(rate, steps, round(self.settings.warmup_fraction * steps))
        # The `legacy` optimizers update a weight in one fused kernel, newer ones in ten passes over its memory.
        if self.settings.optimizer == "adam":
            return tf_keras.optimizers.legacy.Adam(schedule)
        return tf_keras.optimizers.legacy.SGD(schedule, momentum=0.9, nesterov=True)


def still_rising(accuracies: Sequence[float], *, epochs: int, images: int) -> str | None:
    """A sentence where the last of all epochs was still better than the one before by more than chance.

    accuracies: of each epoch on the validation images, fractions. Chance: 1.96 standard errors of the difference of
    two shares, as if each epoch had other images, so that it rather stays silent.
    """
    if len(accuracies) < max(2, epochs):
        return None
    before, last = accuracies[-2:]
    rise, mean = last - before, (before + last) / 2
    if rise <= 1.96 * math.sqrt(2 * mean * (1 - mean) / images):
        return None
    return (
        f"The last of {epochs} epochs still raised the validation accuracy by {100 * rise:.1f} points to {last:.1%}: "
        "more epochs may give a more accurate model."
    )


def _schedule(rate: float, steps: int, warmup: int) -> Any:
    """(k + 1) / (warmup + 1) of `rate` in step k of the first `warmup`, then a cosine to 0."""
    import tf_keras

    cosine = tf_keras.optimizers.schedules.CosineDecay
    if not warmup:
        return cosine(rate, decay_steps=steps)
    return cosine(rate / (warmup + 1), decay_steps=steps - warmup, warmup_target=rate, warmup_steps=warmup)


def _early_stopping(patience: int) -> tf_keras.callbacks.Callback:
    """Restores the epoch of the highest validation accuracy; among equal ones that of the lowest validation loss.

    With a hundred validation images, accuracy is soon equal in many epochs. By accuracy alone, the first of them would
    be kept, and the training would stop for lack of progress.
    """
    import tf_keras

    class EarlyStopping(tf_keras.callbacks.EarlyStopping):  # type: ignore[misc]
        def on_train_begin(self, logs: Any = None) -> None:
            super().on_train_begin(logs)
            self.best = (-math.inf, -math.inf)

        def get_monitor_value(self, logs: Any) -> tuple[float, float]:
            return logs["val_accuracy"], -logs["val_loss"]

        def _is_improvement(self, monitor_value: tuple[float, float], reference_value: tuple[float, float]) -> bool:
            return monitor_value > reference_value

    return EarlyStopping(monitor="val_accuracy", mode="max", patience=patience, restore_best_weights=True)


def _progress(epochs: int, steps: int, policy: str) -> tf_keras.callbacks.Callback:
    """Prints a line for each epoch and, in a terminal, shows a bar of the epoch's steps."""
    import tf_keras
    from tqdm import tqdm

    class Progress(tf_keras.callbacks.Callback):  # type: ignore[misc]
        # Keras would otherwise wait for each step's results to convert them for this callback.
        _supports_tf_logs = True

        def close(self) -> None:
            """Remove the bar of an epoch that was broken off."""
            if hasattr(self, "bar"):
                self.bar.close()

        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
            print(f"training for {epochs} epochs of {steps} steps in {policy.removeprefix('mixed_')}", flush=True)

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.started = time.perf_counter()
            self.bar = tqdm(
                desc=f"epoch {epoch + 1} of {epochs}",
                total=steps,
                unit="step",
                leave=False,
                file=sys.stdout,
                disable=not sys.stdout.isatty(),
            )

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.bar.update()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.bar.close()
            validation = f", validation {float(logs['val_accuracy']):.1%}" if "val_accuracy" in logs else ""
            print(
                f"epoch {epoch + 1} of {epochs}: loss {float(logs['loss']):.3g}, "
                f"accuracy {float(logs['accuracy']):.1%}{validation}, {time.perf_counter() - self.started:.3g} s",
                flush=True,
            )

    return Progress()


def _recorder(trainer: Trainer, initial_rate: str) -> tf_keras.callbacks.Callback:
    """Checks the loss after each epoch, times its training part, and reports the epoch."""
    import tf_keras

    class Recorder(tf_keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
            self.before_s, self.train_started = trainer.seconds, time.perf_counter()

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.started = time.perf_counter()
            self.trained_s = 0.0

        def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
            self.trained_s = time.perf_counter() - self.started

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            wrong = [each for each in ("loss", "val_loss") if not np.isfinite(logs.get(each, 0.0))]
            if wrong:
                images = "training" if wrong[0] == "loss" else "validation"
                raise FloatingPointError(
                    f"the {images} loss became {logs[wrong[0]]} in epoch {epoch + 1}: lower {initial_rate}"
                )
            optimizer = self.model.optimizer
            metrics = {key: float(value) for key, value in logs.items() if key != "lr"}
            metrics["learning_rate"] = float(optimizer.learning_rate(optimizer.iterations - 1))
            metrics["images_per_s"] = len(trainer.data.train) / self.trained_s
            metrics["seconds"] = self.before_s + time.perf_counter() - self.train_started - trainer._aside_s
            trainer.report_metrics(metrics)

    return Recorder()
