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
from pipelines.quantization.four_bits import MAX_INT4
from pipelines.system import checks
from pipelines.techniques.base import SHARED_VALUES, ZEROS, Build, Candidate, Context, EffectError, Technique
from pipelines.techniques.cluster_wrapper import clustered
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

    LEAVES = SHARED_VALUES
    HOLDS_UNTRAINED = True

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

    def undoes(self, earlier: Technique) -> str | None:
        """Zeros become values of clusters, unless they are kept."""
        if earlier.LEAVES == ZEROS and not self.preserve_sparsity:
            return "set technique.preserve_sparsity=true"
        return "take one of them" if isinstance(earlier, Cluster) and self.clusters > earlier.clusters else None

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
            # Filters share no codes of 4 bits, each of which has its own scale.
            if np.issubdtype(kernel.dtype, np.integer) and abs(kernel.astype(np.int16)).max() > MAX_INT4 and together:
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
            return clustered(
                layer,
                number_of_clusters=self.clusters,
                cluster_centroids_init=initialization,
                preserve_sparsity=self.preserve_sparsity,
                cluster_per_channel=self.per_channel,
            )

        return tf_keras.models.clone_model(copy, clone_function=wrap)


def _max_values(kernel: npt.NDArray[Any]) -> int:
    """The largest number of distinct values in any of the kernel's filters, which come first."""
    ordered = np.sort(kernel.reshape(kernel.shape[0], -1), axis=1)
    return 1 + int((np.diff(ordered, axis=1) != 0).sum(axis=1).max())
