"""Fitting a Keras model: input pipeline, optimizer, early stopping, progress, and the clock."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.system import checks, energy, mapped, runtime, stopwatch
from pipelines.training.convolutions import quick_convolutions

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras

    from pipelines.datasets.base import Dataset, ImageData, Split

VALIDATION_BATCH = 256
# Batches prepared at a time and held ready.
PARALLEL = 2
# What may be left of the batch statistics before an epoch at its end.
FORGET = 0.01
# Over fewer steps than these, moving statistics would be those of a few batches: a momentum of 0.9.
MIN_STATISTICS_STEPS = 44
OnEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is fitted.

    epochs, batch_size, patience: whole numbers of at least 1. optimizer: `adam`, or `sgd` with Nesterov momentum
    0.9. learning_rate: above 0, decayed to 0 along a cosine (Loshchilov & Hutter 2017, arXiv:1608.03983); None takes
    the model's own (`Model.learning_rate`). warmup_fraction: part of all steps in which the rate rises to that in equal
    parts, in [0, 1): Adam's first steps rest on few gradients, and throw a deep plain network out of the region in
    which it learns (Goyal et al. 2017, arXiv:1706.02677; Liu et al. 2020, arXiv:1908.03265). mixed_precision: `auto`
    computes in float16 where a GPU is present; weights stay float32.
    """

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float | None
    warmup_fraction: float
    patience: int
    mixed_precision: str | bool

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("epochs", "batch_size", "patience"):
            checks.whole(f"training.{name}", getattr(self, name), least=1)
        checks.one_of("training.optimizer", self.optimizer, ("adam", "sgd"))
        if self.learning_rate is not None:
            checks.number("training.learning_rate", self.learning_rate, above=0)
        checks.fraction("training.warmup_fraction", self.warmup_fraction, zero=True)
        checks.one_of("training.mixed_precision", self.mixed_precision, ("auto", True, False))

    def precision_policy(self) -> str:
        """Keras's dtype policy on this machine. Loads TensorFlow."""
        on_gpu = bool(runtime.gpus())
        wanted = on_gpu if self.mixed_precision == "auto" else self.mixed_precision
        if not wanted:
            return "float32"
        # CPUs have no fast float16; bfloat16 is their half precision.
        return "mixed_float16" if on_gpu else "mixed_bfloat16"


@dataclass(frozen=True, kw_only=True)
class Batches:
    """What a model is fitted on and validated with: inputs and int64 labels (b,), batched."""

    training: tf.data.Dataset
    validation: tf.data.Dataset


@dataclass(kw_only=True)
class Trainer:
    """Fits models on one dataset and keeps account of the time and of every epoch.

    settings: with a learning rate that is a number. seconds: wall time of all training so far. joules: its energy by
    what used it, as far as the machine tells (`pipelines/system/energy.py`). epochs: metrics of each epoch, in order.
    """

    settings: Training
    data: ImageData
    dataset: Dataset
    seed: int
    on_epoch: OnEpoch
    seconds: float = 0.0
    joules: dict[str, float] = field(default_factory=dict)
    epochs: list[dict[str, float]] = field(default_factory=list)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch, the last and smaller one included."""
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
    ) -> None:
        """Train `model` in place and leave it with its best epoch's weights.

        epochs, learning_rate: replace the settings' own for this fit. batches: replace the dataset's own images.
        keep_best: False trains all epochs and leaves the last one's weights, for what is complete only at the end, such
        as pruning. Raises FloatingPointError when the loss stops being a finite number.
        """
        import tf_keras

        epochs = epochs or self.settings.epochs
        rate = learning_rate or self.settings.learning_rate
        assert rate is not None  # a cell names its model's own
        batches = batches or self.batches()
        model.compile(
            optimizer=self._optimizer(rate, self.steps_per_epoch * epochs),
            loss=tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        stop_early = _early_stopping(self.settings.patience)
        momentum = statistics_momentum(self.steps_per_epoch, epochs)
        with self.clock(), quick_convolutions(), _quick_statistics(model, momentum):
            model.fit(
                batches.training,
                validation_data=batches.validation,
                epochs=epochs,
                # A bar where somebody watches, one line an epoch in a log.
                verbose=1 if sys.stdout.isatty() else 2,
                callbacks=[_recorder(self, rate), *([stop_early] if keep_best else []), *callbacks],
            )

    def batches(self) -> Batches:
        """The dataset's images, augmented for training."""
        return Batches(
            training=training_batches(self.data.train, self.dataset, self.settings.batch_size, self.seed),
            validation=plain_batches(self.data.validation),
        )

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Count the time of what is done inside as training. `fit` does so by itself."""
        with energy.counted(self.joules), stopwatch.part("train"):
            started = time.perf_counter()
            try:
                yield
            finally:
                self.seconds += time.perf_counter() - started

    def _optimizer(self, rate: float, steps: int) -> Any:
        import tf_keras

        schedule = _schedule(rate, steps, round(self.settings.warmup_fraction * steps))
        # The `legacy` ones update a weight in one fused kernel, the newer ones in ten passes over its memory.
        if self.settings.optimizer == "adam":
            return tf_keras.optimizers.legacy.Adam(schedule)
        return tf_keras.optimizers.legacy.SGD(schedule, momentum=0.9, nesterov=True)


def _schedule(rate: float, steps: int, warmup: int) -> Any:
    """Step k of the first `warmup` has (k + 1) / (warmup + 1) of `rate`; a cosine takes it to 0 in the others."""
    import tf_keras

    cosine = tf_keras.optimizers.schedules.CosineDecay
    if not warmup:
        return cosine(rate, decay_steps=steps)
    return cosine(rate / (warmup + 1), decay_steps=steps - warmup, warmup_target=rate, warmup_steps=warmup)


def statistics_momentum(steps_per_epoch: int, epochs: int) -> float:
    """The largest momentum of batch normalization that forgets what was before an epoch, or the whole training.

    Each epoch ends with a validation, whose accuracy stops the training and chooses its weights. By Keras's momentum of
    0.99, 57% of the first statistics, 0 and 1 of no layer in particular, are left after 57 steps: EfficientNet-B0
    then gives all images one answer, and its training is stopped as one without progress.
    """
    return float(FORGET ** (1 / min(max(steps_per_epoch, MIN_STATISTICS_STEPS), steps_per_epoch * epochs)))


@contextmanager
def _quick_statistics(model: tf_keras.Model, momentum: float) -> Iterator[None]:
    """Let the moving statistics of batch normalization follow at least as quickly as this momentum has it.

    A network whose weights have changed, by pruning above all, answers at random in inference until they have followed,
    whatever it has learnt.
    """
    layers = [getattr(layer, "layer", layer) for layer in model.layers]  # wrappers hold theirs in `layer`
    before = {layer: layer.momentum for layer in layers if type(layer).__name__ == "BatchNormalization"}
    for layer, own in before.items():
        layer.momentum = min(own, momentum)
    try:
        yield
    finally:
        for layer, own in before.items():
            layer.momentum = own


def training_batches(split: Split, dataset: Dataset, batch_size: int, seed: int) -> tf.data.Dataset:
    """Shuffled, augmented batches: float32 images (b, h, w, 3) with values 0..255, int64 labels (b,).

    Features (n, c) can take the place of images where the dataset augments nothing.
    Indices are shuffled instead of images, and a batch is gathered at once: the cost of an element is paid per
    batch. Every random number comes from `seed`, so that the order and the augmentation repeat.
    """
    import tensorflow as tf

    rows, labels = _rows(split.images), _constant(split.labels)
    indices = tf.data.Dataset.range(len(split)).shuffle(len(split), seed=seed).batch(batch_size)
    seeds = tf.data.Dataset.random(seed=seed).batch(2, drop_remainder=True)

    def gather(index: Any, pair: Any) -> tuple[Any, Any]:
        batch = augment(rows(index), dataset.horizontal_flip, dataset.max_shift, pair)
        return tf.cast(batch, tf.float32), tf.gather(labels, index)

    return _prefetched(tf.data.Dataset.zip((indices, seeds)).map(gather, num_parallel_calls=PARALLEL))


def plain_batches(split: Split, batch_size: int = VALIDATION_BATCH) -> tf.data.Dataset:
    """Batches in order, not augmented: float32 images (b, h, w, 3), or features (b, c); int64 labels (b,)."""
    import tensorflow as tf

    rows, labels = _rows(split.images), _constant(split.labels)
    batches = tf.data.Dataset.range(len(split)).batch(batch_size)
    return _prefetched(batches.map(lambda index: (tf.cast(rows(index), tf.float32), tf.gather(labels, index))))


def _rows(images: Any) -> Callable[[Any], Any]:
    """What gives the images of an index (b,): out of memory, or read from their file where that is mapped."""
    import tensorflow as tf

    region = mapped.region_of(images)
    if region is None:
        held = _constant(images)
        return lambda index: tf.gather(held, index)
    read = mapped.Rows(region)

    def rows(index: Any) -> Any:
        # Where TensorFlow must be deterministic, it runs what has a state one batch at a time.
        batch = tf.numpy_function(read, [index], images.dtype, stateful=False)
        return tf.ensure_shape(batch, [None, *images.shape[1:]])

    return rows


def _constant(array: Any) -> Any:
    """The array as a tensor in the machine's memory, not a GPU's."""
    import tensorflow as tf

    with tf.device("/cpu:0"):
        return tf.constant(array)


def _prefetched(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Prepare batches ahead of their use, without tf.data's autotuning.

    The tuner's thread sleeps for 10 ms, then twice as long each time, and an iterator's end waits until it wakes: an
    epoch of 10.3 s ends after 20.5 s.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(PARALLEL).with_options(options)


def augment(images: Any, flip: bool, max_shift: int, seed: Any) -> Any:
    """Mirror half of the images and shift each by up to `max_shift` pixels, edges reflected.

    images: uint8 (b, h, w, 3). seed: int64 (2,); equal seeds give equal results. Where each row and column comes from
    is worked out first, so that pixels move twice for the whole batch: padding and mirroring them took seven times as
    long.
    """
    import tensorflow as tf

    if not (flip or max_shift):
        return images
    seed = tf.bitcast(seed, tf.int64)
    count, (height, width) = tf.shape(images)[0], images.shape[1:3]
    rows, columns = tf.range(height)[None], tf.range(width)[None]
    if max_shift:
        offsets = (
            tf.random.stateless_uniform([2, count], seed + 1, maxval=2 * max_shift + 1, dtype=tf.int32) - max_shift
        )
        rows, columns = _reflected(offsets[0][:, None] + rows, height), _reflected(offsets[1][:, None] + columns, width)
        images = tf.gather(images, rows, axis=1, batch_dims=1)
    if flip:
        mirrored = tf.random.stateless_uniform([count], seed) < 0.5
        columns = tf.where(mirrored[:, None], width - 1 - columns, columns)
    return tf.gather(images, columns, axis=2, batch_dims=1)


def _reflected(index: Any, size: int) -> Any:
    """An index beyond an edge, turned back into the image without repeating the edge itself."""
    import tensorflow as tf

    index = tf.abs(index)
    return tf.where(index < size, index, 2 * (size - 1) - index)


def _early_stopping(patience: int) -> tf_keras.callbacks.Callback:
    """Restores the epoch of the highest validation accuracy, of equal ones that of the lowest validation loss.

    A hundred validation images soon give one accuracy in epoch after epoch. By accuracy alone the first of them would
    count, and the training would be stopped as one without progress.
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


def _recorder(trainer: Trainer, initial_rate: float) -> tf_keras.callbacks.Callback:
    """Checks the loss after each epoch, times the training part alone, and reports the epoch."""
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
                    f"the {images} loss became {logs[wrong[0]]} in epoch {epoch + 1}: lower training.learning_rate "
                    f"(now {initial_rate:g})"
                )
            optimizer = self.model.optimizer
            rate = float(optimizer.learning_rate(optimizer.iterations - 1))
            metrics = {key: float(value) for key, value in logs.items() if key != "lr"}
            metrics["learning_rate"] = rate
            metrics["images_per_s"] = len(trainer.data.train) / self.trained_s
            metrics["seconds"] = self.before_s + time.perf_counter() - self.train_started
            trainer.epochs.append(metrics)
            trainer.on_epoch(len(trainer.epochs), metrics)

    return Recorder()
