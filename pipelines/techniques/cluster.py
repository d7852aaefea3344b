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
from pipelines.techniques.base import Candidate, Context, EffectError
from pipelines.techniques.effects import check_kernels, chosen_kernels
from pipelines.techniques.fine_tuning import FineTuning

if TYPE_CHECKING:
    import tf_keras

    from pipelines.techniques.effects import Kernels

INITIALIZATIONS = {
    "kmeans++": "KMEANS_PLUS_PLUS",
    "linear": "LINEAR",
    "density": "DENSITY_BASED",
    "random": "RANDOM",
}


@dataclass(frozen=True, kw_only=True)
class Cluster(FineTuning):
    """Fine-tune the baseline while each kernel holds no more than `clusters` distinct values.

    clusters: 3 to 256. initialization: of the shared values, `kmeans++`, `linear`, `density` or `random`. per_channel:
    each output channel of a convolution has its own values, which keeps more accuracy and compresses less.
    preserve_sparsity: zeros stay zeros, and zero is one of the values; a layer with zeros that is not clustered is
    frozen. skip: regular expression; layers whose names it matches from the start are not clustered. epochs,
    learning_rate: of the fine-tuning (`FineTuning`).

    All Conv2D and Dense kernels with more weights than clusters are clustered, depthwise ones never. Expected: the
    compressed file shrinks to a half or less, the plain file and the time do not; with 16 clusters accuracy drops
    little. The converter multiplies the scale of a batch normalization into the kernel before it: in the exported
    model each output channel has at most `clusters` values, and the whole kernel if no normalization follows.
    """

    NAME = "cluster"
    EFFECT = "at most `clusters` values in every output channel"

    clusters: int
    initialization: str
    per_channel: bool
    preserve_sparsity: bool
    skip: str | None

    def __post_init__(self) -> None:
        checks.integer("technique.clusters", self.clusters, minimum=3)
        if self.clusters > 256:
            raise ValueError(f"technique.clusters must be at most 256, got {self.clusters}: set for example 16")
        checks.one_of("technique.initialization", self.initialization, tuple(INITIALIZATIONS))
        checks.flag("technique.per_channel", self.per_channel)
        checks.flag("technique.preserve_sparsity", self.preserve_sparsity)
        checks.pattern("technique.skip", self.skip)
        super().__post_init__()

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Cluster, then train the shared values. Raises EffectError where a kernel has more than `clusters` of them."""
        import tensorflow_model_optimization as tfmot

        wrapped = self._wrapped(candidate.model)
        context.trainer.fit(wrapped, epochs=self.epochs_with(context.trainer), learning_rate=self.learning_rate)
        clustered = replace(candidate, model=tfmot.clustering.keras.strip_clustering(wrapped))
        for layer in clustered.model.layers:
            layer.trainable = True
        for layer, kernel in self._promised(clustered.model).items():
            values = _max_values(np.moveaxis(kernel, -1, 0)) if self._by_channel(kernel) else len(np.unique(kernel))
            if values > self.clusters:
                raise EffectError(f"{self.name} left {values} distinct values in {layer}, more than {self.clusters}")
        return clustered

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """No output channel of a clustered kernel may have more than `clusters` values in the exported model."""
        check_kernels(
            exported_model,
            self._promised(candidate.model),
            lambda kernel: _max_values(kernel) <= self.clusters,
            self.name,
            f"at most {self.clusters} values a channel",
        )

    def _promised(self, model: tf_keras.Model) -> Kernels:
        def weights(kernel: npt.NDArray[Any]) -> int:
            """The least number of weights that share values; tfmot needs more of them than clusters."""
            used = kernel != 0 if self.preserve_sparsity else np.ones(kernel.shape, bool)
            return int(used.reshape(-1, kernel.shape[-1]).sum(axis=0).min() if self._by_channel(kernel) else used.sum())

        kernels = chosen_kernels(model, self.skip)
        return {name: kernel for name, kernel in kernels.items() if weights(kernel) > self.clusters}

    def _by_channel(self, kernel: npt.NDArray[Any]) -> bool:
        return self.per_channel and kernel.ndim == 4

    def _wrapped(self, model: tf_keras.Model) -> tf_keras.Model:
        import tensorflow_model_optimization as tfmot
        import tf_keras

        initialization = getattr(tfmot.clustering.keras.CentroidInitialization, INITIALIZATIONS[self.initialization])
        # The wrappers share layers with what they wrap: wrap a copy.
        copy = checkpoint.duplicate(model)
        promised = self._promised(copy)
        if not promised:
            raise EffectError(
                f"{self.name} found no kernel to cluster with clusters {self.clusters} and skip {self.skip!r}: lower "
                "technique.clusters or let technique.skip match less"
            )
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
    """tfmot's wrapper, with all channels looked up at once instead of one after another.

    tfmot's `cluster_weights` is not used: per channel, it skips convolutions without a bias, because it mistakes the
    kernel's size for the number of channels.
    """
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.clustering.keras.cluster_wrapper import ClusterWeights
    from tensorflow_model_optimization.python.core.clustering.keras.clustering_algorithm import ClusteringAlgorithm

    class AllChannels(ClusteringAlgorithm):  # type: ignore[misc]
        def get_clustered_weight(self, pulling_indices: Any, original_weight: Any) -> Any:
            channels_first = tf.transpose(pulling_indices, [3, 0, 1, 2])
            clustered = tf.gather(self.cluster_centroids, channels_first, batch_dims=1)
            kernel = tf.transpose(clustered, [1, 2, 3, 0])
            return self.add_gradient_to_original_weight(kernel, tf.identity(original_weight))

    class Wrapper(ClusterWeights):  # type: ignore[misc]
        def build(self, input_shape: Any) -> None:
            super().build(input_shape)
            if self.cluster_per_channel:
                self.clustering_algorithms["kernel"] = AllChannels(self.cluster_centroids["kernel"])

    return Wrapper(layer, **options)


def _max_values(kernel: npt.NDArray[Any]) -> int:
    """The largest number of distinct values in any of the kernel's filters, which come first."""
    ordered = np.sort(kernel.reshape(kernel.shape[0], -1), axis=1)
    return 1 + int((np.diff(ordered, axis=1) != 0).sum(axis=1).max())
