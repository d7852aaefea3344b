"""Magnitude pruning: the smallest weights become zero, singly or in patterns.

Source: Zhu & Gupta 2017, arXiv:1710.01878; Mishra et al. 2021, arXiv:2104.08378, for 2:4; `tfmot.sparsity.keras`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.models import checkpoint
from pipelines.system import checks
from pipelines.system.words import some
from pipelines.techniques.base import SHARED_VALUES, ZEROS, Build, Candidate, Context, EffectError, Technique
from pipelines.techniques.effects import MAX_NAMES, check_kernels, chosen_kernels, report_left_out
from pipelines.techniques.fine_tuning import FineTuning

if TYPE_CHECKING:
    import tf_keras

    from pipelines.techniques.effects import Kernels

# The weights of a kernel that become zero together, by name of the pattern.
PATTERNS = {
    "unstructured": "each on its own",
    "two_in_four": "two in every four input channels in a row",
    "block": "whole rows of `block_size` input channels",
}
# Fraction of the steps in which the sparsity grows; the other steps recover accuracy.
PRUNING_SHARE = 0.6
MASK_UPDATES = 20


@dataclass(frozen=True, kw_only=True)
class Prune(FineTuning):
    """Fine-tune the baseline while its smallest weights become zero.

    The number of zeros grows along a cubic schedule; with `two_in_four`, all are there from the first step on.
    pattern: one of PATTERNS. sparsity: final fraction of zeros in each kernel, in (0, 1); 0.5 with `two_in_four`.
    block_size: at least 2, used by `block` only. skip: regular expression; layers whose names it matches from the start
    stay dense. epochs: at least 2 steps in total, None for the training's own. learning_rate: above 0.

    All Conv2D and Dense kernels are pruned whose number of input channels is a multiple of the pattern's (not the first
    one, with 3 colours), depthwise ones never. Expected: the compressed file shrinks with the sparsity, the plain file
    and the time do not, as LiteRT computes with the zeros; accuracy drops little up to about 0.8.
    """

    NAME = "prune"
    EFFECT = "the zeros, in their pattern, in every kernel whose input channels they divide"
    LEAVES = ZEROS

    pattern: str
    sparsity: float
    skip: str | None
    block_size: int = 4

    def __post_init__(self) -> None:
        checks.one_of("technique.pattern", self.pattern, PATTERNS)
        checks.fraction("technique.sparsity", self.sparsity)
        if self.pattern == "two_in_four" and self.sparsity != 0.5:
            raise ValueError(
                f"technique.sparsity must be 0.5 with the pattern two_in_four, got {self.sparsity}: set "
                "technique.sparsity=0.5, or take technique=prune_2_4"
            )
        checks.integer("technique.block_size", self.block_size, minimum=2)
        # Equal settings are equal cells.
        if self.pattern != "block":
            object.__setattr__(self, "block_size", 4)
        checks.pattern("technique.skip", self.skip)
        super().__post_init__()

    @property
    def name(self) -> str:
        """`prune`, `prune_2_4` or `prune_block`."""
        return {"unstructured": "prune", "two_in_four": "prune_2_4", "block": "prune_block"}[self.pattern]

    @property
    def summary(self) -> str:
        """With the pattern."""
        return f"{super().summary.removesuffix('.')}: {PATTERNS[self.pattern]}."

    def undoes(self, earlier: Technique) -> str | None:
        """Kernels are trained, and the zeros chosen anew."""
        if earlier.LEAVES == SHARED_VALUES:
            return "let it be an earlier step"
        if not isinstance(earlier, Prune):
            return None
        is_more = (self.pattern, self._row) == (earlier.pattern, earlier._row) and self.sparsity >= earlier.sparsity
        return None if is_more else "take one of them"

    def check_network(self, model: Build) -> None:
        """Raise ValueError where no kernel would be pruned."""
        self._chosen(model())

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Prune while training. Raises EffectError where a kernel did not reach the sparsity."""
        import tensorflow_model_optimization as tfmot

        trainer = context.trainer
        steps = trainer.steps_per_epoch * (self.epochs or trainer.settings.epochs)
        if steps < 2:
            raise ValueError(f"{self.name} needs at least 2 training steps, got {steps}: raise technique.epochs")
        report_left_out(self.skip, candidate.model, context.report)
        kernels = chosen_kernels(candidate.model, self.skip)
        if dense := [name for name, kernel in kernels.items() if not self._fits(kernel)]:
            context.report(
                f"{self.name} leaves kernels dense whose input channels are no multiple of {self._row}: "
                f"{some(dense, MAX_NAMES)}"
            )
        wrapped = self._wrapped(candidate.model, steps)
        trainer.fit(
            wrapped,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            callbacks=[tfmot.sparsity.keras.UpdatePruningStep()],
            # The best epoch may precede the full sparsity.
            keep_best=False,
        )
        pruned = replace(candidate, model=tfmot.sparsity.keras.strip_pruning(wrapped))
        for layer, kernel in self._promised(pruned.model).items():
            if not self._holds(np.moveaxis(kernel, -1, 0)):
                raise EffectError(f"{self.name} left {np.count_nonzero(kernel) / kernel.size:.1%} of {layer} non-zero")
        return pruned

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """The exported model must have the zeros."""
        promised = self._promised(candidate.model)
        check_kernels(exported_model, promised, self._holds, self.name, f"{self.sparsity:.0%} zeros")

    def _promised(self, model: tf_keras.Model) -> Kernels:
        kernels = chosen_kernels(model, self.skip)
        return {name: kernel for name, kernel in kernels.items() if self._fits(kernel)}

    def _fits(self, kernel: npt.NDArray[Any]) -> bool:
        """Whether rows divide the kernel's input channels."""
        return bool(kernel.shape[-2] % self._row == 0)

    def _chosen(self, model: tf_keras.Model) -> Kernels:
        promised = self._promised(model)
        if not promised:
            inputs = sorted({kernel.shape[-2] for kernel in chosen_kernels(model, self.skip).values()})
            reason = (
                f"their input channels are {', '.join(map(str, inputs))}: a row must divide one of these numbers"
                if inputs
                else f"technique.skip={self.skip} leaves out every kernel: let it match less"
            )
            raise ValueError(f"{self.name} found no kernel to prune in rows of {self._row} input channels, as {reason}")
        return promised

    @property
    def _row(self) -> int:
        """Number of consecutive input channels that belong together."""
        return {"unstructured": 1, "two_in_four": 4, "block": self.block_size}[self.pattern]

    def _holds(self, kernel: npt.NDArray[Any]) -> bool:
        """Whether a kernel, filters first and input channels last, has the sparsity."""
        # The shape is (units, inputs) of a dense kernel and (filters, h, w, channels) of a convolution's.
        used = (kernel.reshape(-1, self._row) != 0).sum(axis=1)
        if self.pattern == "two_in_four":
            return bool(used.max() <= 2)
        # tfmot rounds the number of groups that it keeps, and keeps ties with the smallest of them.
        keeps = used.size * (1 - self.sparsity)
        return bool(np.count_nonzero(used) <= 1 + 1.001 * keeps)

    def _wrapped(self, model: tf_keras.Model, steps: int) -> tf_keras.Model:
        """A copy of the model whose promised layers are wrapped for pruning."""
        import tensorflow_model_optimization as tfmot
        import tf_keras

        frequency = max(1, int(PRUNING_SHARE * steps) // MASK_UPDATES)
        end = frequency * max(1, int(PRUNING_SHARE * steps) // frequency)
        schedule = tfmot.sparsity.keras.PolynomialDecay(
            initial_sparsity=0.0, final_sparsity=self.sparsity, begin_step=0, end_step=end, frequency=frequency
        )
        # The wrappers share layers with what they wrap: wrap a copy.
        copy = checkpoint.duplicate(model)
        promised = self._chosen(copy)

        def wrap(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
            if layer.name not in promised:
                return layer
            if self.pattern == "block":
                return _block_pruned(layer, schedule, self.block_size)
            pattern = {"sparsity_m_by_n": (2, 4)} if self.pattern == "two_in_four" else {}
            return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule, **pattern)

        return tf_keras.models.clone_model(copy, clone_function=wrap)


def _block_pruned(layer: tf_keras.layers.Layer, schedule: Any, size: int) -> tf_keras.layers.Layer:
    """tfmot's wrapper for rows of input channels; tfmot's own blocks are for dense layers only."""
    import tensorflow as tf
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_impl, pruning_wrapper

    class RowPruning(pruning_impl.Pruning):  # type: ignore[misc]
        # AutoGraph cannot read a method that calls super() and warns of each layer.
        @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
        def _update_mask(self, weights: Any) -> tuple[Any, Any]:
            *window, channels, filters = weights.shape
            rows = tf.reshape(tf.abs(weights), [*window, channels // size, size, filters])
            threshold, mask = super()._update_mask(tf.reduce_mean(rows, axis=-2))
            return threshold, tf.repeat(mask, size, axis=-2)

    class RowWrapper(pruning_wrapper.PruneLowMagnitude):  # type: ignore[misc]
        def build(self, input_shape: Any) -> None:
            super().build(input_shape)
            self.pruning_obj = RowPruning(
                training_step_fn=self.pruning_obj._step_fn,  # type: ignore[has-type]
                pruning_vars=self.pruning_vars,
                pruning_schedule=self.pruning_schedule,
                block_size=[1, 1],
                block_pooling_type="AVG",
            )

    return RowWrapper(layer, pruning_schedule=schedule)
