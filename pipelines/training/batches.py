"""The input pipeline of a training: shuffled, augmented batches of images from memory or a file."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipelines.system import mapped

if TYPE_CHECKING:
    import tensorflow as tf

    from pipelines.datasets.base import Dataset, Split

# Validation keeps no activations, so that a batch may have more images than one of training; but not many more.
VALIDATION_BATCH, TIMES_TRAINING = 256, 4
# Number of batches prepared in parallel, and of batches held ready.
PARALLEL = 2


def training_batches(split: Split, dataset: Dataset, batch_size: int, seed: int) -> tf.data.Dataset:
    """Shuffled, augmented batches: float32 images (b, h, w, 3) with values 0..255, int64 labels (b,).

    Features (n, c) can take the place of images where the dataset augments nothing.
    The sizes of batches differ by at most one, and none is over `batch_size`: of a few images left at the end, the
    statistics would decide batch normalization, as each epoch is validated right after them.
    Indices are shuffled instead of images, and a batch is gathered at once, so tf.data's overhead occurs per batch.
    All random numbers come from `seed`, so order and augmentation are reproducible.
    """
    import tensorflow as tf

    rows, labels = _rows(split.images), _constant(split.labels)
    count = math.ceil(len(split) / batch_size)
    # As many batches of one size, then of one less.
    sizes = [(len(split) + count - 1 - number) // count for number in range(count)]
    shuffled = tf.data.Dataset.range(len(split)).shuffle(len(split), seed=seed).batch(len(split))
    indices = shuffled.rebatch(tf.constant(sizes, tf.int64))
    seeds = tf.data.Dataset.random(seed=seed).batch(2, drop_remainder=True)

    def gather(index: Any, pair: Any) -> tuple[Any, Any]:
        batch = augment(rows(index), dataset.horizontal_flip, dataset.max_shift, pair)
        return tf.cast(batch, tf.float32), tf.gather(labels, index)

    return _prefetched(tf.data.Dataset.zip((indices, seeds)).map(gather, num_parallel_calls=PARALLEL))


def validation_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """`plain_batches` as large as fits into memory where training in batches of `batch_size` does."""
    return plain_batches(split, min(VALIDATION_BATCH, TIMES_TRAINING * batch_size))


def plain_batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Batches in order, not augmented: float32 images (b, h, w, 3), or features (b, c); int64 labels (b,)."""
    import tensorflow as tf

    rows, labels = _rows(split.images), _constant(split.labels)
    batches = tf.data.Dataset.range(len(split)).batch(batch_size)
    return _prefetched(batches.map(lambda index: (tf.cast(rows(index), tf.float32), tf.gather(labels, index))))


def _rows(images: Any) -> Callable[[Any], Any]:
    """A function from an index (b,) to its images: from memory, or read from their file if they are mapped."""
    import tensorflow as tf

    region = mapped.region_of(images)
    if region is None:
        held = _constant(images)
        return lambda index: tf.gather(held, index)
    read = mapped.Rows(region)

    def rows(index: Any) -> Any:
        # Deterministic TensorFlow would run a stateful function one batch at a time.
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

    The tuner's thread sleeps for 10 ms, then twice as long each time, and the end of an iterator waits for it: an epoch
    of 10.3 s ends after 20.5 s.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(PARALLEL).with_options(options)


def augment(images: Any, flip: bool, max_shift: int, seed: Any) -> Any:
    """Mirror half of the images and shift each by up to `max_shift` pixels, edges reflected.

    images: uint8 (b, h, w, 3). seed: int64 (2,); equal seeds give equal results. The source of each row and column is
    computed first, so that pixels are copied twice only: padding and mirroring images took seven times as long.
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
    """An index beyond an edge, reflected into the image without repeating the edge."""
    import tensorflow as tf

    index = tf.abs(index)
    return tf.where(index < size, index, 2 * (size - 1) - index)
