"""Weight clustering: the weights of a kernel share a few values.

Source: Han et al. 2016, arXiv:1510.00149; `tfmot.clustering.keras`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.models import checkpoint
from pipelines.system import checks
from pipelines.techniques.base import Build, Candidate, Context, EffectError
from pipelines.techniques.effects import check_kernels, chosen_kernels, report_left_out
from pipelines.techniques.fine_tuning import FineTuning
from pipelines.techniques.folding import mirror, takes_normalized

if TYPE_CHECKING:
    import tf_keras

    from pipelines.techniques.effects import Kernels

INITIALIZATIONS = {
    "kmeans++": "KMEANS_PLUS_PLUS",
    "linear": "LINEAR",
    "density": "DENSITY_BASED",
    "random": "RANDOM",
}
# Of k-means, at most.
ITERATIONS = 3000
# Up to so many values, a weight is compared with each of them; else its place among them is searched.
FEW = 32


@dataclass(frozen=True, kw_only=True)
class Cluster(FineTuning):
    """Fine-tune the baseline while each kernel holds no more than `clusters` distinct values.

    clusters: 3 to 256. initialization: of the shared values, `kmeans++`, `linear`, `density` or `random`. per_channel:
    each output channel of a convolution has its own values, which keeps more accuracy and compresses less.
    preserve_sparsity: zeros stay zeros, and zero is one of the values; a layer with zeros that is not clustered is
    frozen. skip: regular expression; layers whose names it matches from the start are not clustered. epochs,
    learning_rate: of the fine-tuning (`FineTuning`).

    All Conv2D and Dense kernels with more weights than clusters are clustered, except those of depthwise convolutions
    and those behind a batch normalization that no convolution takes up: the converter multiplies its scales into them.
    Expected: the compressed file shrinks to a half or less, the plain file and the time do not; with 16 clusters
    accuracy drops little. The converter multiplies the scale of a batch normalization into the kernel before it. In a
    float model each output channel then has at most `clusters` values, and the whole kernel if no normalization
    follows. With 8-bit weights the whole kernel has, unless `per_channel` is true, as the scales of the channels take
    up the factors (`pipelines/quantization/clusters.py`).
    """

    NAME = "cluster"
    EFFECT = "at most `clusters` values in every channel; with 8-bit weights, unless `per_channel`, in every kernel"

    LEAVES = "shared values"

    clusters: int
    initialization: str
    per_channel: bool
    preserve_sparsity: bool
    skip: str | None

    def __post_init__(self) -> None:
        checks.integer("technique.clusters", self.clusters, minimum=3)
        if self.clusters > 256:
            raise ValueError(
                f"technique.clusters must be at most 256, got {self.clusters}: set for example technique.clusters=16"
            )
        checks.one_of("technique.initialization", self.initialization, tuple(INITIALIZATIONS))
        checks.flag("technique.per_channel", self.per_channel)
        checks.flag("technique.preserve_sparsity", self.preserve_sparsity)
        checks.pattern("technique.skip", self.skip)
        super().__post_init__()

    def undoes(self, trace: str) -> str | None:
        """Zeros become values of clusters, unless they are kept."""
        if trace == "zeros" and not self.preserve_sparsity:
            return "set technique.preserve_sparsity=true"
        return None

    def check_network(self, model: Build) -> None:
        """Raise ValueError where no kernel would be clustered."""
        self._chosen(model())

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Cluster, then train the shared values. Raises EffectError where a kernel has more than `clusters` of them."""
        import tensorflow_model_optimization as tfmot

        report_left_out(self.skip, candidate.model, context.report)
        mirror(candidate.model)
        wrapped = self._wrapped(candidate.model)
        context.trainer.fit(wrapped, epochs=self.epochs, learning_rate=self.learning_rate)
        clustered = replace(candidate, model=tfmot.clustering.keras.strip_clustering(wrapped))
        for layer in clustered.model.layers:
            layer.trainable = True
        for layer, kernel in self._promised(clustered.model).items():
            values = _max_values(np.moveaxis(kernel, -1, 0)) if self._by_channel(kernel) else len(np.unique(kernel))
            if values > self.clusters:
                raise EffectError(f"{self.name} left {values} distinct values in {layer}, more than {self.clusters}")
        return clustered

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """No clustered kernel of integers may have more than `clusters` values beside 0 in the exported model. No
        channel may of one in floats, with `per_channel` or with few weights in a channel.
        """

        def holds(kernel: npt.NDArray[Any]) -> bool:
            together = not self.per_channel and kernel.size >= 2 * self.clusters * len(kernel)
            if np.issubdtype(kernel.dtype, np.integer) and together:
                # Magnitudes, as a factor other than a batch normalization's may mirror a channel.
                return len(np.unique(abs(kernel[kernel != 0].astype(np.int16)))) <= self.clusters
            return _max_values(kernel) <= self.clusters

        check_kernels(
            exported_model,
            self._promised(candidate.model),
            holds,
            self.name,
            f"at most {self.clusters} values",
        )

    def _promised(self, model: tf_keras.Model) -> Kernels:
        def weights(kernel: npt.NDArray[Any]) -> int:
            """The least number of weights that share values; tfmot needs more of them than clusters."""
            used = kernel != 0 if self.preserve_sparsity else np.ones(kernel.shape, bool)
            return int(used.reshape(-1, kernel.shape[-1]).sum(axis=0).min() if self._by_channel(kernel) else used.sum())

        return {
            name: kernel
            for name, kernel in chosen_kernels(model, self.skip).items()
            if weights(kernel) > self.clusters and not takes_normalized(model.get_layer(name))
        }

    def _chosen(self, model: tf_keras.Model) -> Kernels:
        promised = self._promised(model)
        if not promised:
            raise ValueError(
                f"{self.name} found no kernel to cluster with clusters {self.clusters} and skip {self.skip!r}: lower "
                "technique.clusters or let technique.skip match less"
            )
        return promised

    def _by_channel(self, kernel: npt.NDArray[Any]) -> bool:
        return self.per_channel and kernel.ndim == 4

    def _wrapped(self, model: tf_keras.Model) -> tf_keras.Model:
        import tensorflow_model_optimization as tfmot
        import tf_keras

        initialization = getattr(tfmot.clustering.keras.CentroidInitialization, INITIALIZATIONS[self.initialization])
        # The wrappers share layers with what they wrap: wrap a copy.
        copy = checkpoint.duplicate(model)
        promised = self._chosen(copy)
        # A layer that is trained without being clustered would lose its zeros.
        sparse = {name for name, kernel in chosen_kernels(copy).items() if not kernel.all()}

        def wrap(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
            if layer.name not in promised:
                if self.preserve_sparsity and layer.name in sparse:
                    layer.trainable = False
                return layer
            return _clustered(
                layer,
                number_of_clusters=self.clusters,
                cluster_centroids_init=initialization,
                preserve_sparsity=self.preserve_sparsity,
                cluster_per_channel=self.per_channel,
            )

        return tf_keras.models.clone_model(copy, clone_function=wrap)


def _clustered(layer: tf_keras.layers.Layer, **options: Any) -> tf_keras.layers.Layer:
    """tfmot's wrapper, which starts from the values of k-means and finds the nearest ones in less time.

    tfmot's `cluster_weights` is not used: per channel, it skips convolutions without a bias, because it mistakes the
    kernel's size for the number of channels.
    """
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.clustering.keras.cluster_wrapper import ClusterWeights
    from tensorflow_model_optimization.python.core.clustering.keras.clustering_algorithm import ClusteringAlgorithm

    class Lookup(ClusteringAlgorithm):  # type: ignore[misc]
        """Of values (k,), or (channels, k) with all channels looked up at once instead of one after another."""

        def __init__(self, centroids: Any) -> None:
            super().__init__(centroids)
            # Compiled, a few comparisons do not store the distances to all values: 20 times as fast for 16 values.
            few = centroids.shape[-1] <= FEW
            self.nearest = tf.function(_nearest, jit_compile=few, autograph=False)

        def get_pulling_indices(self, weight: Any) -> Any:
            return self.nearest(weight, self.cluster_centroids)

        def get_clustered_weight(self, pulling_indices: Any, original_weight: Any) -> Any:
            if len(self.cluster_centroids.shape) == 1:
                return super().get_clustered_weight(pulling_indices, original_weight)
            channels_first = tf.transpose(pulling_indices, [3, 0, 1, 2])
            clustered = tf.gather(self.cluster_centroids, channels_first, batch_dims=1)
            kernel = tf.transpose(clustered, [1, 2, 3, 0])
            return self.add_gradient_to_original_weight(kernel, tf.identity(original_weight))

    class Wrapper(ClusterWeights):  # type: ignore[misc]
        def build(self, input_shape: Any) -> None:
            super().build(input_shape)
            kernel, centroids = self.layer.kernel, self.cluster_centroids["kernel"]
            centroids.assign(_refined(centroids.numpy(), kernel.numpy(), zeros=self.preserve_sparsity))
            self.clustering_algorithms["kernel"] = Lookup(centroids)
            self.pulling_indices["kernel"].assign(_nearest(kernel, centroids))
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

    return Wrapper(layer, **options)


def _nearest(weights: Any, values: Any) -> Any:
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


def _refined(
    centroids: npt.NDArray[np.float32], kernel: npt.NDArray[np.float32], *, zeros: bool
) -> npt.NDArray[np.float32]:
    """Centroids at which k-means arrives from the given ones: (k,), or (channels, k) with values for each channel.

    tfmot's k-means++ chooses a few of the weights and leaves it at that. zeros: a centroid of 0 and weights of 0 stay.
    """
    if centroids.ndim == 2:
        channels = np.moveaxis(kernel, -1, 0)
        return np.stack([_refined(*each, zeros=zeros) for each in zip(centroids, channels, strict=True)])
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


def _max_values(kernel: npt.NDArray[Any]) -> int:
    """The largest number of distinct values in any of the kernel's filters, which come first."""
    ordered = np.sort(kernel.reshape(kernel.shape[0], -1), axis=1)
    return 1 + int((np.diff(ordered, axis=1) != 0).sum(axis=1).max())
