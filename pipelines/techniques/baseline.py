"""The baseline: the whole model is trained, unless it comes trained; nothing is optimized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.results import verdict
from pipelines.results.statistics import SIGNIFICANCE
from pipelines.techniques.base import Candidate, Context, Technique
from pipelines.training.batches import plain_batches

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class Baseline(Technique):
    """Train every layer, unless the model comes trained, and export in float32.

    All other cells of its model and dataset are compared with it.
    """

    NAME = "baseline"
    EFFECT = None
    parent = None

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Fit the whole model, unless its weights are taken as they are."""
        if context.trained:
            context.report(
                "the model's weights are taken as they are; its accuracy here counts if its own training did not use "
                "these test images"
            )
            _report_uninformed(candidate.model, context)
        else:
            context.trainer.fit(candidate.model)
        return candidate


def _report_uninformed(model: tf_keras.Model, context: Context) -> None:
    """Say so where a model that came trained answers the validation images no better than one constant answer."""
    data = context.trainer.data
    batches = plain_batches(data.validation, context.trainer.settings.batch_size)
    answers = model.predict(batches, verbose=0).argmax(axis=1)
    constant = verdict.majority(answers, data.validation.labels, data.class_names)
    if constant.p_value < SIGNIFICANCE:
        return
    right = float((answers == data.validation.labels).mean())
    context.report(
        f"the model as it is answers {right:.1%} of {len(answers)} validation images rightly, which is no better than "
        f"always answering {constant.answer!r} ({constant.share:.1%}; one-sided exact McNemar test, "
        f"p = {constant.p_value:.2g}). The usual causes are model.pixels, now for a model that expects other values, "
        "and the order of the classes: name it with model.class_names"
    )
