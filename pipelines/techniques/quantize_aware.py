"""Quantization-aware training: the network is trained with the rounding of its int8 exported model.

Source: Jacob et al. 2018, arXiv:1712.05877; `tfmot.quantization.keras`. The collaborative chains keep zeros and shared
values through it, as `tfmot.quantization.keras.collab_opts` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.quantization.calibration import PIXELS
from pipelines.quantization.clusters import by_filter, with_shared_codes
from pipelines.system import checks
from pipelines.techniques.base import SHARED_VALUES, ZEROS, Candidate, Context, EffectError, Rewritten, Technique
from pipelines.techniques.effects import chosen_kernels
from pipelines.techniques.fake_quantization import fake_quantized, wrappers
from pipelines.techniques.fine_tuning import FineTuning
from pipelines.techniques.folding import equalize
from pipelines.techniques.quantize import check_integer
from pipelines.training.batches import training_batches

if TYPE_CHECKING:
    import tf_keras

PRESERVE = ("nothing", "sparsity", "clusters", "sparsity_and_clusters")
# Per step. With tfmot's 0.999, ranges that start at -6..6 need thousands of steps.
RANGE_DECAY = 0.9
MAX_CLUSTERS = 256


@dataclass(frozen=True, kw_only=True)
class QuantizeAware(FineTuning):
    """Fine-tune the baseline with fake int8 quantization, then convert with the learnt ranges.

    learning_rate: a tenth or less of the baseline's. preserve: `nothing`, `sparsity` (zeros of the kernels stay zeros),
    `clusters` (weights that share a value keep sharing one) or `sparsity_and_clusters`: for use after pruning and
    clustering.

    Expected: the time and size of `quantize_int8` with a smaller loss of accuracy, for a second training with epochs
    about twice as long.
    """

    NAME = "qat"
    EFFECT = "no float32 tensor"
    EXPORTS_FLOAT = False
    HOLDS_UNTRAINED = True

    preserve: str

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.one_of("technique.preserve", self.preserve, PRESERVE)

    def undoes(self, earlier: Technique) -> str | None:
        """Kernels are trained, and keep what `preserve` says."""
        word = {ZEROS: "sparsity", SHARED_VALUES: "clusters"}.get(earlier.LEAVES or "")
        if word is None or word in self.preserve:
            return None
        return f"set technique.preserve={word if self.preserve == 'nothing' else 'sparsity_and_clusters'}"

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Train a fake-quantized copy, and copy its weights to the plain model."""
        trainer = context.trainer
        equalize(candidate.model)
        wrapped = fake_quantized(candidate.model)
        self._keep(wrapped)
        images, _ = next(iter(training_batches(trainer.data.train, trainer.dataset, trainer.settings.batch_size, 0)))
        with trainer.clock():
            _follow_ranges(wrapped, images)
        trainer.fit(wrapped, epochs=self.epochs, learning_rate=self.learning_rate)
        _measure_kernels(wrapped)
        _copy_back(wrapped, candidate.model)
        return replace(candidate, fake_quantized=wrapped, rewriting=_sharing(candidate.model))

    def state(self, candidate: Candidate) -> Sequence[npt.NDArray[Any]]:
        """The weights of the fake-quantized network, with its learnt ranges."""
        assert candidate.fake_quantized is not None
        return list(candidate.fake_quantized.get_weights())

    def resumed(self, model: tf_keras.Model, state: Sequence[npt.NDArray[Any]]) -> Candidate:
        """The fake-quantized network from the plain one and its weights."""
        wrapped = fake_quantized(model)
        wrapped.set_weights(list(state))
        return Candidate(model=model, fake_quantized=wrapped, rewriting=_sharing(model))

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """The exported model must have integer tensors only."""
        from pipelines.litert.exported_model import tensor_dtypes

        try:
            check_integer(self.name, tensor_dtypes(exported_model))
        except EffectError as error:
            raise EffectError(
                f"{error}, as a layer of several operators learns a range at its end only: choose quantize_int8, which "
                "measures all ranges"
            ) from error

    def _keep(self, wrapped: tf_keras.Model) -> None:
        """Make the kernels keep their zeros and shared values in training.

        tfmot's own schemes are not used: the one for clusters guesses wrongly which kernels are clustered by channel,
        looks channels up one after another, and shares one state among all layers.
        """
        for wrapper in wrappers(wrapped):
            if type(wrapper.layer).__name__ not in ("Conv2D", "Dense"):
                continue
            ((kernel, quantizer, variables),) = wrapper._weight_vars
            keep = _keeper(kernel.numpy(), zeros="sparsity" in self.preserve, shared="clusters" in self.preserve)
            if keep is not None:
                wrapper._weight_vars = [(kernel, _Keeping(quantizer, keep), variables)]


@dataclass(frozen=True, kw_only=True)
class _Sharing:
    """Lets the clusters of kernels, each (filters, weights), share integers in the exported model."""

    kernels: tuple[npt.NDArray[np.float32], ...]

    def rewrite(self, flatbuffer: bytes, data: Any, **_: Any) -> Rewritten:
        return Rewritten(flatbuffer=with_shared_codes(flatbuffer, self.kernels))


def _sharing(model: tf_keras.Model) -> _Sharing:
    kernels = chosen_kernels(model).values()
    return _Sharing(kernels=tuple(by_filter(kernel, kernel.ndim - 1) for kernel in kernels))


class _Keeping:
    """A weight quantizer that ties weights in training.

    Tied weights get equal gradients and stay equal, so inference needs no tying.
    """

    def __init__(self, quantizer: Any, keep: Callable[[Any], Any]) -> None:
        self.quantizer, self.keep = quantizer, keep

    def __call__(self, inputs: Any, training: bool, weights: Any, **more: Any) -> Any:
        return self.quantizer(self.keep(inputs) if training else inputs, training, weights=weights, **more)


def _keeper(kernel: npt.NDArray[Any], *, zeros: bool, shared: bool) -> Callable[[Any], Any] | None:
    import tensorflow as tf

    mask = tf.constant(kernel != 0, kernel.dtype) if zeros and not kernel.all() else None
    groups = _shared_values(kernel) if shared else None
    if mask is None and groups is None:
        return None

    def keep(weights: Any) -> Any:
        if groups is not None:
            indices = tf.constant(groups)
            means = tf.math.unsorted_segment_mean(weights, indices, int(groups.max()) + 1)
            weights = tf.gather(means, indices)
        return weights if mask is None else weights * mask

    return keep


def _shared_values(kernel: npt.NDArray[Any]) -> npt.NDArray[np.int32] | None:
    """Groups of weights that share a value, as numbers in the kernel's shape; None if it is not clustered."""
    values, groups = np.unique(kernel, return_inverse=True)
    if len(values) <= min(MAX_CLUSTERS, kernel.size - 1):
        return groups.reshape(kernel.shape).astype(np.int32)
    channels = kernel.reshape(-1, kernel.shape[-1]).T
    most = max(len(np.unique(channel)) for channel in channels)
    if most > min(MAX_CLUSTERS, channels.shape[1] - 1):
        return None
    offsets = np.arange(len(channels), dtype=np.int32)[:, None] * MAX_CLUSTERS
    numbered = np.stack([np.unique(channel, return_inverse=True)[1].reshape(-1) for channel in channels])
    return np.ascontiguousarray((numbered + offsets).T).reshape(kernel.shape).astype(np.int32)


def _follow_ranges(wrapped: tf_keras.Model, images: Any) -> None:
    """Start the ranges of activations at those of a batch of images, and let them follow quickly."""
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops, quantizers
    from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer

    decay = tf.Variable(0.0, trainable=False)

    class Following(quantizers.MovingAverageQuantizer):  # type: ignore[misc]
        def __call__(self, inputs: Any, training: bool, weights: Any, **_: Any) -> Any:
            return quant_ops.MovingAvgQuantize(
                inputs,
                weights["min_var"],
                weights["max_var"],
                ema_decay=decay,
                is_training=training,
                num_bits=self.num_bits,
                per_channel=self.per_axis,
                symmetric=self.symmetric,
                narrow_range=self.narrow_range,
            )

    following = Following(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
    for wrapper in wrappers(wrapped):
        wrapper._output_quantizers = [following for _ in wrapper._output_quantizers]
        for activation in wrapper._quantize_activations:
            activation.quantizer = following
    for layer in wrapped.layers:
        if isinstance(layer, QuantizeLayer) and layer.quantizer:
            # That of pixels, whatever the training images have.
            for name, pixel in zip(("min_var", "max_var"), PIXELS, strict=True):
                layer.quantizer_vars[name].assign(pixel)
    before = {id(layer): layer.get_weights() for layer in _normalizations(wrapped)}
    wrapped(images, training=True)
    for layer in _normalizations(wrapped):
        layer.set_weights(before[id(layer)])
    decay.assign(RANGE_DECAY)


def _measure_kernels(wrapped: tf_keras.Model) -> None:
    """Set the ranges of the kernels to those of the weights. Training leaves them a step older than the best ones."""
    for wrapper in wrappers(wrapped):
        for kernel, quantizer, variables in wrapper._weight_vars:
            quantizer(kernel, True, weights=variables)


def _normalizations(wrapped: tf_keras.Model) -> list[Any]:
    return [w.layer for w in wrappers(wrapped) if type(w.layer).__name__ == "BatchNormalization"]


def _copy_back(wrapped: tf_keras.Model, model: tf_keras.Model) -> None:
    """Copy the learnt weights to the plain model, layer by layer and variable by variable."""
    for wrapper in wrappers(wrapped):
        plain = model.get_layer(wrapper.layer.name)
        # Its statistics are of the images, and not learnt.
        if type(plain).__name__ == "Normalization":
            continue
        # The wrapper holds the kernel; its layer has the rounded one.
        learnt = {_last(variable.name): variable for variable in (*wrapper.weights, *wrapper.layer.weights)}
        plain.set_weights([learnt[_last(weight.name)].numpy() for weight in plain.weights])


def _last(name: str) -> str:
    return PurePosixPath(name).name.partition(":")[0]
