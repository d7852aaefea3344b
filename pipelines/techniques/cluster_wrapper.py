"""tfmot's wrapper of a layer whose weights share values, from the values of k-means, and faster."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import tf_keras

# Of k-means, at most.
ITERATIONS = 3000
# Up to so many values, a weight is compared with each of them; else its place among them is searched.
FEW = 32


def clustered(layer: tf_keras.layers.Layer, **options: Any) -> tf_keras.layers.Layer:
    """The layer in a wrapper of this kind. options: of tfmot's `ClusterWeights`.

    tfmot's `cluster_weights` is not used: per channel, it skips convolutions without a bias, because it mistakes the
    kernel's size for the number of channels.
    """
    return _wrapper()(layer, **options)


@cache
def _wrapper() -> Any:
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.clustering.keras.cluster_wrapper import ClusterWeights

    class Wrapper(ClusterWeights):  # type: ignore[misc]
        def build(self, input_shape: Any) -> None:
            super().build(input_shape)
            kernel, centroids = self.layer.kernel, self.cluster_centroids["kernel"]
            centroids.assign(refined(centroids.numpy(), kernel.numpy(), zeros=self.preserve_sparsity))
            self.clustering_algorithms["kernel"] = _lookup()(centroids)
            self.pulling_indices["kernel"].assign(nearest(kernel, centroids))
            if self.preserve_sparsity:
                # tfmot chose them for its own values, which were in another order.
                self.zero_idx["kernel"] = tf.argmin(abs(centroids), axis=-1)
                clustered = self.clustering_algorithms["kernel"].get_clustered_weight(
                    self.pulling_indices["kernel"], kernel
                )
                self.sparsity_masks["kernel"] = tf.cast(clustered != 0, kernel.dtype)

        def update_clustered_weights_associations(self) -> None:
            """As tfmot's, which sets the zeros of one channel after another: a dozen operations for each."""
            kernel, centroids = self.original_clusterable_weights["kernel"], self.cluster_centroids["kernel"]
            if self.preserve_sparsity:
                zero = tf.one_hot(self.zero_idx["kernel"], centroids.shape[-1], dtype=centroids.dtype)
                centroids.assign(centroids * (1 - zero))
                kernel = kernel * self.sparsity_masks["kernel"]
            places = self.clustering_algorithms["kernel"].get_pulling_indices(kernel)
            self.pulling_indices["kernel"].assign(places)
            self.set_weight_to_layer(
                "kernel", self.clustering_algorithms["kernel"].get_clustered_weight(places, kernel)
            )

    return Wrapper


@cache
def _lookup() -> Any:
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.clustering.keras.clustering_algorithm import ClusteringAlgorithm

    class Lookup(ClusteringAlgorithm):  # type: ignore[misc]
        """Of values (k,), or (channels, k) with all channels looked up at once instead of one after another."""

        def __init__(self, centroids: Any) -> None:
            super().__init__(centroids)
            # Compiled, a few comparisons do not store the distances to all values: 20 times as fast for 16 values.
            few = centroids.shape[-1] <= FEW
            self.nearest = tf.function(nearest, jit_compile=few, autograph=False)

        def get_pulling_indices(self, weight: Any) -> Any:
            return self.nearest(weight, self.cluster_centroids)

        def get_clustered_weight(self, pulling_indices: Any, original_weight: Any) -> Any:
            if len(self.cluster_centroids.shape) == 1:
                return super().get_clustered_weight(pulling_indices, original_weight)
            channels_first = tf.transpose(pulling_indices, [3, 0, 1, 2])
            clustered = tf.gather(self.cluster_centroids, channels_first, batch_dims=1)
            kernel = tf.transpose(clustered, [1, 2, 3, 0])
            return self.add_gradient_to_original_weight(kernel, tf.identity(original_weight))

    return Lookup


def nearest(weights: Any, values: Any) -> Any:
    """For each weight the place of the nearest value; weights (..., channels), values (k,) or (channels, k)."""
    import tensorflow as tf

    if values.shape[-1] <= FEW:
        return tf.argmin(abs(tf.expand_dims(weights, -1) - values), axis=-1)
    if len(values.shape) > 1:
        order = tf.argsort(values, axis=-1)
        ordered = tf.gather(values, order, batch_dims=1)
        by_channel = tf.transpose(tf.reshape(weights, [-1, weights.shape[-1]]))
        places = tf.searchsorted((ordered[:, 1:] + ordered[:, :-1]) / 2, by_channel)
        found = tf.gather(tf.cast(order, tf.int64), places, batch_dims=1)
        return tf.reshape(tf.transpose(found), weights.shape)
    order = tf.argsort(values)
    ordered = tf.gather(values, order)
    places = tf.searchsorted((ordered[1:] + ordered[:-1]) / 2, tf.reshape(weights, [-1]))
    return tf.reshape(tf.gather(tf.cast(order, tf.int64), places), weights.shape)


def refined(
    centroids: npt.NDArray[np.float32], kernel: npt.NDArray[np.float32], *, zeros: bool
) -> npt.NDArray[np.float32]:
    """Centroids at which k-means arrives from the given ones: (k,), or (channels, k) with values for each channel.

    tfmot's k-means++ chooses a few of the weights and leaves it at that. zeros: a centroid of 0 and weights of 0 stay.
    """
    if centroids.ndim == 2:
        channels = np.moveaxis(kernel, -1, 0)
        return np.stack([refined(*each, zeros=zeros) for each in zip(centroids, channels, strict=True)])
    moving = centroids[centroids != 0] if zeros else centroids
    weights = np.sort(kernel[kernel != 0] if zeros else kernel, axis=None).astype(np.float64)
    sums = np.concatenate([[0], np.cumsum(weights)])
    found = np.sort(moving).astype(np.float64)
    for _ in range(ITERATIONS):
        # Weights are sorted, so those of a centroid lie between two places.
        ends = np.searchsorted(weights, (found[1:] + found[:-1]) / 2)
        edges = np.concatenate([[0], ends, [len(weights)]])
        counts = np.diff(edges)
        means = np.where(counts > 0, np.diff(sums[edges]) / counts.clip(min=1), found)
        if np.array_equal(means, found):
            break
        found = means
    return np.concatenate([centroids[centroids == 0], found.astype(np.float32)]) if zeros else found.astype(np.float32)
