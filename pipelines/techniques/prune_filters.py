"""Filter pruning: whole channels are removed, and the network becomes smaller and faster.

Source: Li et al. 2017, arXiv:1608.08710.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.models import channels, complexity
from pipelines.system import checks
from pipelines.techniques.base import Build, Candidate, Context, EffectError, Technique
from pipelines.techniques.effects import report_left_out
from pipelines.techniques.fine_tuning import FineTuning

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class PruneFilters(FineTuning):
    """Take the filters of smallest L1 norm out of the baseline and fine-tune the smaller network.

    fraction: of the filters that are removed, in (0, 1), rounded in each group of channels; one always stays. skip:
    regular expression; groups with a layer whose name it matches from the start stay whole. epochs: at least 1, None
    for the training's own. learning_rate: above 0.

    Convolutions whose outputs are added or multiplied form one group and lose the same channels. A channel's score is
    the sum over its group's kernels of its filter's L1 norm divided by the kernel's mean, so that no kernel dominates
    by its scale. The logits stay, and depthwise kernels follow their input.

    Expected: computation and size shrink to about (1 - fraction)^2, and the time with them; accuracy drops a lot, and
    fine-tuning recovers most of it.
    """

    NAME = "prune_filters"
    EFFECT = "the kernels' smaller shapes"

    fraction: float
    skip: str | None

    def __post_init__(self) -> None:
        checks.fraction("technique.fraction", self.fraction)
        checks.pattern("technique.skip", self.skip)
        super().__post_init__()

    def undoes(self, earlier: Technique) -> str | None:
        """Kernels are trained."""
        return None if earlier.LEAVES is None else "let it be an earlier step"

    def check_network(self, model: Build) -> None:
        """Raise ValueError where no filter would be removed."""
        self.kept(model())

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Prune, then fine-tune."""
        report_left_out(self.skip, candidate.model, context.report)
        model = channels.narrowed(candidate.model, self.kept(candidate.model))
        shares = {
            "prune/filters_removed_share": 1 - _filters(model) / _filters(candidate.model),
            "prune/parameters_share": complexity.parameters(model) / complexity.parameters(candidate.model),
            "prune/macs_share": complexity.macs(model) / complexity.macs(candidate.model),
        }
        context.report(f"{self.name}: {shares['prune/macs_share']:.0%} of the computation is left, fine-tuning")
        context.trainer.fit(model, epochs=self.epochs, learning_rate=self.learning_rate)
        return replace(candidate, model=model, metrics={**candidate.metrics, **shares})

    def kept(self, model: tf_keras.Model) -> Mapping[str, channels.Indices]:
        """The channels that stay, in order, of each group of `channels.groups` that is pruned.

        Raises ValueError where there is no such group, or where the network is of another kind than `channels` takes.
        """
        kept = {}
        for group, producers in channels.groups(model).producers.items():
            if self.skip and any(re.match(self.skip, name) for name in producers):
                continue
            score = np.sum([_score(model.get_layer(name).kernel.numpy()) for name in producers], axis=0)
            removed = min(round(self.fraction * score.size), score.size - 1)
            if removed:
                kept[group] = np.sort(np.argsort(score, kind="stable")[removed:])
        if not kept:
            raise ValueError(
                f"{self.name} found no filter to remove with fraction {self.fraction:g} and skip {self.skip!r}: raise "
                "technique.fraction or let technique.skip match less"
            )
        return kept

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """The exported model must have exactly the smaller kernels, beside those inside layers of one's own."""
        from pipelines.litert.kernels import kernels

        promised = Counter(_exported_shape(name, one) for name, one in complexity.kernels(candidate.model).items())
        found = Counter(kernel.values.shape for kernel in kernels(exported_model))
        if found != promised:
            missing = promised - found
            surplus = found - promised if complexity.counts_all(candidate.model) else Counter()
            faults = [
                f"{what} {few.total()} (one has the shape {max(few)}, filters first)"
                for what, few in (("lacks", missing), ("also has", surplus))
                if few
            ]
            if faults:
                raise EffectError(
                    f"{self.name} must export {promised.total()} kernels; the file {' and '.join(faults)}"
                )


def _exported_shape(name: str, kernel: npt.NDArray[np.float32]) -> tuple[int, ...]:
    """Filters or units are the last axis in Keras and the first in the exported model; depthwise ones stay last."""
    if name.endswith("/depthwise_kernel"):
        height, width, *_ = kernel.shape
        return 1, height, width, kernel.size // (height * width)
    return np.moveaxis(kernel, -1, 0).shape


def _score(kernel: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Each filter's L1 norm, filters last, divided by their mean."""
    norms = np.abs(kernel).reshape(-1, kernel.shape[-1]).sum(axis=0)
    return norms / max(float(norms.mean()), np.finfo(np.float32).tiny)  # type: ignore[no-any-return]


def _filters(model: tf_keras.Model) -> int:
    """Filters of convolutions; of a network without any, units."""
    filters: int = sum(layer.filters for layer in model.layers if type(layer).__name__ == "Conv2D")
    units: int = sum(layer.units for layer in model.layers if type(layer).__name__ == "Dense")
    return filters or units
