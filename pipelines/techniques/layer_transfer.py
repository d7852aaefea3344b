"""Model-to-model layer transfer: trained layers of a donor initialize another model.

Source: the article (doi:10.17671/gazibtd.976711) names the technique; Yosinski et al. 2014, arXiv:1411.1792, and Chen
et al. 2016, arXiv:1511.05641, study copied layers and deeper copies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pipelines.models import checkpoint
from pipelines.system import checks
from pipelines.system.words import some
from pipelines.techniques.base import Build, Candidate, Context, EffectError, Table
from pipelines.techniques.source import SourceTechnique

if TYPE_CHECKING:
    import tf_keras

    from pipelines.results.folder import Finished

    Layer: TypeAlias = tf_keras.layers.Layer

ALWAYS = "always"
PRINTED_ROWS = 40


@dataclass(frozen=True, kw_only=True)
class LayerTransfer(SourceTechnique):
    """Copy the layers of a donor that fit, then train like the baseline, for as many epochs.

    source: the donor, another model on this dataset, this model on another dataset, or both. match: `name` (VGG16 to
    VGG19, ResNet50 to ResNet101 and EfficientNet B0 to B1 share names), `shape` (the pairs in graph order that copy
    the most parameters), or a mapping of this model's layers to the donor's. layers: regular expression that a layer's
    name must match from the start, or None for all. freeze: number of first epochs in which the copied layers are
    frozen, or `always`.

    Expected: no change in the exported model's time or size; higher accuracy after equal epochs, or the baseline's
    accuracy in less time. The donor's own training counts towards the total training time.
    """

    NAME = "layer_transfer"
    EFFECT = None

    match: str | Mapping[str, str]
    layers: str | None
    freeze: int | str

    def __post_init__(self) -> None:
        if not isinstance(self.match, Mapping):
            checks.one_of("technique.match", self.match, ("name", "shape"))
        elif not self.match:
            raise ValueError(
                "technique.match must name at least one pair of layers, got none: set for example technique.match=name"
            )
        checks.pattern("technique.layers", self.layers)
        if self.freeze != ALWAYS:
            if not isinstance(self.freeze, int):
                raise ValueError(
                    f"technique.freeze must be a whole number or always, got {self.freeze!r}: set for example "
                    "technique.freeze=0"
                )
            checks.integer("technique.freeze", self.freeze, minimum=0)

    def check_source(self, model: Build, source: Build) -> None:
        """Raise ValueError where no layer would be copied, or where the first epochs would train none."""
        self._pairs(model(), source())

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Copy, report the plan, train. Raises EffectError where a frozen layer has changed."""
        assert context.source is not None and context.baseline is not None  # the executor provides both
        model = candidate.model
        donor = checkpoint.load(context.source.files.checkpoint)
        pairs = self._pairs(model, donor)
        table = _plan(model, pairs, donor)
        share = sum(layer.count_params() for layer, _ in pairs) / model.count_params()
        _report(context, model, pairs, share, table)
        for layer, from_layer in pairs:
            layer.set_weights(from_layer.get_weights())
        self._train(model, [layer for layer, _ in pairs], context)
        if self.freeze == ALWAYS:
            _check_unmoved(pairs)
        metrics = {
            "transfer/parameters_share": share,
            "transfer/layers_copied": float(len(pairs)),
            **_progress(context.trainer.epochs, context.baseline),
        }
        return replace(
            candidate,
            metrics={**candidate.metrics, **metrics},
            tables={**candidate.tables, "transfer_plan": table},
        )

    def _pairs(self, model: tf_keras.Model, donor: tf_keras.Model) -> list[tuple[Layer, Layer]]:
        """Layers of the model, each with the donor's layer to copy, in graph order.

        Raises ValueError where there are none, or where `freeze` leaves no layer to train.
        """
        pairs = self._matched(model, donor)
        if not pairs and self.layers and not self._chosen(model):
            raise ValueError(
                f"technique.layers must match the beginning of the name of a layer with weights, got {self.layers!r}: "
                f"{model.name} has {some([layer.name for layer in model.layers if layer.weights], 8)}"
            )
        if not pairs:
            raise ValueError(
                f"technique.match must pair layers of {model.name} with the source's, got {self.match!r}, by which "
                f"no layer fits with technique.layers={self.layers}: set for example technique.match=shape, or choose "
                "another model@technique.source.model"
            )
        copied = {layer.name for layer, _ in pairs}
        if self.freeze and not any(layer.trainable_weights for layer in model.layers if layer.name not in copied):
            raise ValueError(
                f"technique.freeze={self.freeze} leaves nothing of {model.name} to train, as every layer was "
                "copied: set technique.freeze=0, or leave layers out with technique.layers"
            )
        return pairs

    def _chosen(self, model: tf_keras.Model) -> list[Layer]:
        """The layers with weights that `layers` chooses."""
        chosen = [layer for layer in model.layers if self.layers is None or re.match(self.layers, layer.name)]
        return [layer for layer in chosen if layer.weights]

    def _matched(self, model: tf_keras.Model, donor: tf_keras.Model) -> list[tuple[Layer, Layer]]:
        targets = self._chosen(model)
        sources = [layer for layer in donor.layers if layer.weights]
        by_name = {layer.name: layer for layer in sources}
        if isinstance(self.match, Mapping):
            return _mapped(self.match, {layer.name: layer for layer in targets}, by_name)
        if self.match == "name":
            named = [(layer, by_name[layer.name]) for layer in targets if layer.name in by_name]
            return [(layer, source) for layer, source in named if _form(layer) == _form(source)]
        return _longest_in_order(targets, sources)

    def _train(self, model: tf_keras.Model, copied: Sequence[Layer], context: Context) -> None:
        epochs = context.trainer.settings.epochs
        frozen = epochs if self.freeze == ALWAYS else min(int(self.freeze), epochs)
        for layer in copied:
            layer.trainable = not frozen
        try:
            if frozen:
                context.trainer.fit(model, epochs=frozen)
        finally:
            for layer in copied:
                layer.trainable = True
        if frozen < epochs:
            context.trainer.fit(model, epochs=epochs - frozen)


def _form(layer: Layer) -> tuple[str, list[tuple[int, ...]]]:
    return type(layer).__name__, [tuple(weight.shape) for weight in layer.weights]


def _mapped(
    wanted: Mapping[str, str], targets: Mapping[str, Layer], sources: Mapping[str, Layer]
) -> list[tuple[Layer, Layer]]:
    for target, source in wanted.items():
        for name, layers, whose in ((target, targets, "the model"), (source, sources, "the donor")):
            if name not in layers:
                raise ValueError(
                    f"technique.match must name layers with weights, got {name!r}, which {whose} does not have"
                    f"{' among those of technique.layers' if layers is targets else ''}: it has "
                    f"{some([*layers], 8)}"
                )
        if _form(targets[target]) != _form(sources[source]):
            raise ValueError(
                f"technique.match pairs {target} {_form(targets[target])} with {source} {_form(sources[source])}: "
                "both must have one class and one shape"
            )
    return [(layer, sources[wanted[name]]) for name, layer in targets.items() if name in wanted]


def _longest_in_order(targets: Sequence[Layer], sources: Sequence[Layer]) -> list[tuple[Layer, Layer]]:
    """The common subsequence of equal classes and shapes that has the most parameters."""
    rows, columns = len(targets), len(sources)
    best = np.zeros((rows + 1, columns + 1), np.int64)
    forms = [_form(source) for source in sources]
    for i in reversed(range(rows)):
        form, count = _form(targets[i]), targets[i].count_params()
        for j in reversed(range(columns)):
            best[i, j] = max(best[i + 1, j], best[i, j + 1])
            if form == forms[j]:
                best[i, j] = max(best[i, j], best[i + 1, j + 1] + count)
    pairs, i, j = [], 0, 0
    while i < rows and j < columns:
        if best[i, j] == best[i + 1, j]:
            i += 1
        elif best[i, j] == best[i, j + 1]:
            j += 1
        else:
            pairs.append((targets[i], sources[j]))
            i, j = i + 1, j + 1
    return pairs


def _plan(model: tf_keras.Model, pairs: Sequence[tuple[Layer, Layer]], donor: tf_keras.Model) -> Table:
    """Every layer with weights and its source; an empty source means that it keeps its own weights."""
    copied = {layer.name: source.name for layer, source in pairs}
    layers = [layer for layer in model.layers if layer.weights]
    total = model.count_params()
    same_name = {layer.name for layer in donor.layers}
    return {
        "layer": [layer.name for layer in layers],
        "source_layer": [copied.get(layer.name, "") for layer in layers],
        "parameters": [int(layer.count_params()) for layer in layers],
        "share_of_model": [layer.count_params() / total for layer in layers],
        "shape": [str([tuple(weight.shape) for weight in layer.weights]) for layer in layers],
        "donor_has_the_name": [layer.name in same_name for layer in layers],
    }


def _report(
    context: Context, model: tf_keras.Model, pairs: Sequence[tuple[Layer, Layer]], share: float, table: Table
) -> None:
    assert context.source is not None
    for number, (layer, source) in enumerate(pairs):
        if number == PRINTED_ROWS:
            context.report(f"  ... and {len(pairs) - number} more: tables/transfer_plan.json")
            break
        of_model = layer.count_params() / model.count_params()
        context.report(f"  {layer.name:28} <- {source.name:28} {layer.count_params():>12,} parameters {of_model:7.2%}")
    context.report(
        f"{model.name} takes {len(pairs)} of {len(table['layer'])} layers from {context.source.result.name}: "
        f"{share:.1%} of its parameters"
    )


def _check_unmoved(pairs: Sequence[tuple[Layer, Layer]]) -> None:
    for layer, source in pairs:
        if any(not np.array_equal(a, b) for a, b in zip(layer.get_weights(), source.get_weights(), strict=True)):
            raise EffectError(f"layer {layer.name} must keep its copied weights while frozen, got other weights")


def _progress(epochs: Sequence[Mapping[str, float]], baseline: Finished) -> dict[str, float]:
    """The training compared with the baseline's, on validation images; seconds exclude the donor's training.

    The seconds and epochs to the baseline's accuracy are absent where it is not reached. Empty where one of the two was
    not trained, as it then has no validation accuracy: a baseline that came trained, or a rehearsal.
    """
    theirs = baseline.result.epochs
    if not theirs or not epochs:
        return {}
    common = min(len(epochs), len(theirs))
    best = _best(theirs)
    metrics = {
        "transfer/equal_epochs": float(common),
        "transfer/equal_epochs_accuracy_gain": _best(epochs[:common]) - _best(theirs[:common]),
        "transfer/baseline_accuracy": best,
        "transfer/baseline_seconds": theirs[_first(theirs, best)]["seconds"],
    }
    if _best(epochs) >= best:
        reached = _first(epochs, best)
        metrics["transfer/seconds_to_baseline_accuracy"] = epochs[reached]["seconds"]
        metrics["transfer/epochs_to_baseline_accuracy"] = 1.0 + reached
    return metrics


def _best(epochs: Sequence[Mapping[str, float]]) -> float:
    return max(epoch["val_accuracy"] for epoch in epochs)


def _first(epochs: Sequence[Mapping[str, float]], accuracy: float) -> int:
    return next(number for number, epoch in enumerate(epochs) if epoch["val_accuracy"] >= accuracy)
