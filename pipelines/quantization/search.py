"""As few bits as each layer bears: a search on one half of some images, and a proof on the other.

The search orders plans from careful to bold by one half. The other half then tests them in that order, and stops at the
first whose drop is not proven. As the order does not depend on these images, the drop of the plan that is kept holds
with the confidence of a single test, however many are made.
Source: fixed sequence testing; Angelopoulos et al. 2021, arXiv:2110.01052 (Learn then Test), 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import NormalDist

import numpy as np

from pipelines.datasets.base import Split
from pipelines.quantization.answers import Judge, Loss, logits, snr_db
from pipelines.quantization.clusters import Kernel, codebook, kernels, with_shared_codes
from pipelines.quantization.four_bits import ALGORITHMS, with_four_bits
from pipelines.quantization.integers import quantized
from pipelines.quantization.layers import Layer, float_outputs, layers
from pipelines.quantization.sensitivity import evenly, of_8_bits, part
from pipelines.quantization.weights import MIN_WEIGHTS
from pipelines.results import statistics

# Plans with 4-bit layers that are tried, evenly spaced by the bytes that they save.
STEPS = 10
# The probability of proving the allowed drop of a model that loses nothing.
POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which layers are not in 8 bits. floats: places of those in float32. fours: the algorithm of those in 4 bits, by
    their place."""

    floats: frozenset[int] = frozenset()
    fours: Mapping[int, str] = field(default_factory=dict)

    def bits(self, layer: Layer) -> int | str:
        """4, 8 or `float`."""
        return "float" if layer.place in self.floats else 4 if layer.place in self.fours else 8


@dataclass(frozen=True, kw_only=True)
class Found:
    """The outcome of a search.

    flatbuffer: the model. plan: its bits. plans: all that were to be proven, from careful to bold. allowed: the drop
    that was to be proven: `max_drop`, or more where the images are too few for that. proof: of the plan on the images
    that the search did not see. needed: validation images that could prove `max_drop`.
    """

    flatbuffer: bytes
    plan: Plan
    plans: tuple[Plan, ...]
    layers: tuple[Layer, ...]
    allowed: float
    proof: Loss
    needed: int

    @property
    def proven(self) -> bool:
        """Whether the bound of the drop is within what is allowed."""
        return self.proof.bound <= self.allowed


@dataclass(frozen=True, kw_only=True)
class Search:
    """The settings of a search.

    original: a float32 model. calibrated_model: the same with ranges. max_drop: accuracy that may be lost, in (0, 1).
    four_bits, float_layers: whether layers may be so. algorithms: that 4-bit layers choose from. pack: whether the
    model stores 4-bit weights in 4 bits, see `with_four_bits`. report: prints a line of progress.
    """

    original: bytes
    calibrated_model: bytes
    max_drop: float
    four_bits: bool = True
    float_layers: bool = True
    algorithms: tuple[str, ...] = ALGORITHMS
    pack: bool = True
    report: Callable[[str], None] = print

    def run(self, split: Split) -> Found:
        """Search with one half of the images and prove with the other."""
        seen, unseen = (Judge(self.original, half) for half in halves(split))
        plans, allowed, needed = self._ordered(seen, len(unseen.split))
        self.report(f"proving a drop of at most {100 * allowed:.1f} points on {len(unseen.split):,} other images")
        kept: tuple[Plan, Loss] | None = None
        for plan in plans:
            proof = unseen.loss(self.made(plan, pack=False))
            if proof.bound > allowed:
                kept = kept or (plan, proof)
                break
            kept = plan, proof
        assert kept is not None
        plan, proof = kept
        return Found(
            flatbuffer=self.made(plan, pack=self.pack),
            plan=plan,
            plans=tuple(plans),
            layers=self.layers,
            allowed=allowed,
            proof=proof,
            needed=needed,
        )

    def made(self, plan: Plan, *, pack: bool) -> bytes:
        """The model of a plan."""
        base = self._base(plan.floats)
        return with_four_bits(base, self.original, plan.fours, pack=pack) if plan.fours else base

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """All layers with a kernel."""
        return tuple(layers(self.original))

    @cached_property
    def _bases(self) -> dict[frozenset[int], bytes]:
        """The models without 4-bit layers that were made, by the layers that they have in float32."""
        return {}

    @cached_property
    def _clustered(self) -> list[Kernel]:
        return [kernel for kernel in kernels(self.original) if codebook(kernel) is not None]

    def _base(self, floats: frozenset[int]) -> bytes:
        if floats not in self._bases:
            outputs = float_outputs(self.original, floats) if floats else ()
            base = quantized(self.calibrated_model, float_layers=outputs)
            self._bases[floats] = with_shared_codes(base, self._clustered)
        return self._bases[floats]

    def _ordered(self, seen: Judge, unseen: int) -> tuple[list[Plan], float, int]:
        """Plans from careful to bold, the drop that may be proven of them, and the images that `max_drop` takes."""
        careful = [Plan()]
        loss = seen.loss(self.made(careful[0], pack=False))
        allowed = max(self.max_drop, provable(loss.changed, unseen))
        needed = images_for(self.max_drop, loss.changed)
        if self.float_layers and loss.bound > allowed:
            # Where 8 bits may do after all, the other half decides.
            careful = [*self._with_floats(seen, allowed), *(careful if loss.drop <= allowed else [])]
        if not self.four_bits:
            return careful, allowed, needed
        bold = self._with_fours(seen, careful[-1])
        # Up to the boldest that loses no more here. More bytes saved mean more noise, so losses are nearly ordered.
        low, high = 0, len(bold)
        while low < high:
            middle = (low + high + 1) // 2
            if seen.loss(self.made(bold[middle - 1], pack=False)).drop <= allowed:
                low = middle
            else:
                high = middle - 1
        return [*careful, *bold[:low]], allowed, needed

    def _with_floats(self, seen: Judge, allowed: float) -> list[Plan]:
        """The worst layers in float: twice as many as seem necessary, then just these."""
        ranking = of_8_bits(self.original, self.calibrated_model, seen.split, report=self.report)
        worst = [one.layer.place for one in sorted(ranking, key=lambda one: one.snr_db)]
        count, plans = 1, [Plan()]
        while count < len(worst):
            plans.append(Plan(floats=frozenset(worst[:count])))
            if seen.loss(self.made(plans[-1], pack=False)).bound <= allowed:
                break
            count *= 2
        return [Plan(floats=frozenset(worst[: 2 * count])), plans[-1]]

    def _with_fours(self, seen: Judge, base: Plan) -> list[Plan]:
        """More and more layers in 4 bits, first those with the least noise for the bytes that they save."""
        images = evenly(seen.split).images
        eight = self.made(base, pack=False)
        expected = logits(eight, images)
        candidates = [
            layer
            for layer in self.layers
            if layer.operator != "DEPTHWISE_CONV_2D" and layer.weights >= MIN_WEIGHTS
            if layer.place not in base.floats
        ]
        if not candidates:
            return []
        self.report(f"ranking layers in 4 bits: {len(candidates)}, on {len(images):,} images")
        chosen: dict[int, str] = {}
        cost: dict[int, float] = {}
        for layer in candidates:
            snr = {
                one: snr_db(
                    expected, logits(with_four_bits(eight, self.original, {layer.place: one}, pack=False), images)
                )
                for one in self.algorithms
            }
            best = max(snr, key=lambda one: snr[one])
            chosen[layer.place] = best
            cost[layer.place] = 10 ** (-snr[best] / 10) / layer.weights
        order = sorted(candidates, key=lambda layer: cost[layer.place])
        saved = np.cumsum([layer.weights for layer in order])
        ends = sorted({int(np.searchsorted(saved, share * saved[-1])) for share in np.linspace(0, 1, STEPS + 1)[1:]})
        prefixes = ([layer.place for layer in order[: end + 1]] for end in ends)
        return [replace(base, fours={place: chosen[place] for place in prefix}) for prefix in prefixes]


def halves(split: Split) -> tuple[Split, Split]:
    """Two halves of the images, each with every second one of each class."""
    order = np.argsort(split.labels, kind="stable")
    return part(split, np.sort(order[::2])), part(split, np.sort(order[1::2]))


def provable(changed: float, images: int) -> float:
    """The smallest drop that so many images prove, with the probability `POWER`, of a model that loses nothing.

    changed: fraction of the images that only one of the two models gets right. By the bound of `Loss`.
    """
    error = math.sqrt((changed * images + 2) / (images + 2) / (images + 2))
    return (statistics.ONE_SIDED + NormalDist().inv_cdf(POWER)) * error


def images_for(drop: float, changed: float) -> int:
    """The number of images, search and proof together, by which `provable` is at most a drop."""
    needed = 1
    while provable(changed, needed) > drop:
        needed = math.ceil(needed * 1.01)
    return 2 * needed
