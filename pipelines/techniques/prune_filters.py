"""Filter pruning: whole channels are taken out, so that the network becomes smaller and faster.

Source: Li et al. 2017, arXiv:1608.08710, by L1 norm; groups of residual connections as in Fang et al. 2023,
arXiv:2301.12900.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines import checks
from pipelines.models import complexity
from pipelines.models.channels import ChannelGroups
from pipelines.techniques.base import Candidate, Context, EffectError, Technique
from pipelines.techniques.baseline import Baseline

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class PruneFilters(Technique):
    """Remove the weakest filters of the baseline, then fine-tune what is left.

    fraction: of the filters of each group of channels, in (0, 1); at least one stays. Channels that are added up or
    multiplied with each other go together. A filter's strength is its L1 norm, as a share of its kernel's, summed over
    the kernels of its group. skip: regular expression; groups that a layer with a matching name gives stay whole.
    epochs: None for the training's own. learning_rate: above 0.

    Expected: parameters and computation fall by about the square of what is left (0.3 leaves a half), file and time
    with them; accuracy falls, the more the fewer epochs follow.
    """

    fraction: float
    skip: str | None
    epochs: int | None
    learning_rate: float

    def __post_init__(self) -> None:
        """Check every field."""
        checks.fraction("technique.fraction", self.fraction)
        if self.skip is not None:
            checks.pattern("technique.skip", self.skip)
        if self.epochs is not None:
            checks.whole("technique.epochs", self.epochs, least=1)
        checks.number("technique.learning_rate", self.learning_rate, above=0)

    @property
    def name(self) -> str:
        """`prune_filters`."""
        return "prune_filters"

    @property
    def origin(self) -> Technique:
        """The baseline's trained model."""
        return Baseline()

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Shrink and fine-tune. Raises EffectError where nothing became smaller."""
        model = candidate.model
        smaller = self._shrunk(model)
        shares = {
            "prune/parameters_share": complexity.parameters(smaller) / complexity.parameters(model),
            "prune/macs_share": complexity.macs(smaller) / complexity.macs(model),
        }
        if max(shares.values()) >= 1:
            raise EffectError(
                f"{self.name} removed nothing from {model.name} with technique.fraction={self.fraction} and "
                f"technique.skip={self.skip}: raise the fraction or skip less"
            )
        context.say(
            f"{model.name} keeps {shares['prune/parameters_share']:.1%} of its parameters and "
            f"{shares['prune/macs_share']:.1%} of its operations"
        )
        context.trainer.fit(smaller, epochs=self.epochs, learning_rate=self.learning_rate)
        return replace(candidate, model=smaller, metrics={**candidate.metrics, **shares})

    def verify(self, candidate: Candidate, artifact: Path) -> None:
        """The artifact's kernels must be the small network's."""
        from pipelines.measure.kernels import kernels

        wanted = Counter(kernel.size for kernel in complexity.kernels(candidate.model).values())
        found = Counter(kernel.values.size for kernel in kernels(artifact))
        if found != wanted:
            raise EffectError(f"{self.name} promised kernels of {dict(wanted)} weights, the artifact has {dict(found)}")

    def _shrunk(self, model: tf_keras.Model) -> tf_keras.Model:
        groups = ChannelGroups(model)
        kept = {}
        for group in sorted(groups.prunable):
            producers = groups.producers(group)
            if self.skip is not None and any(re.match(self.skip, layer.name) for layer in producers):
                continue
            strength = np.sum([_strength(layer.get_weights()[0]) for layer in producers], axis=0)
            count = len(strength)
            stay = max(1, count - int(self.fraction * count))
            kept[group] = np.sort(np.argsort(-strength, kind="stable")[:stay])
        return groups.without(kept)


def _strength(kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    norms: npt.NDArray[Any] = np.abs(kernel).sum(axis=tuple(range(kernel.ndim - 1)))
    return norms / max(float(norms.sum()), float(np.finfo(np.float32).tiny))
