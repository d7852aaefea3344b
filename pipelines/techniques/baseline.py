"""The baseline: the whole model is trained, unless it comes trained; nothing is optimized."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.results import verdict
from pipelines.results.statistics import SIGNIFICANCE, mcnemar
from pipelines.techniques.base import Candidate, Context, Technique
from pipelines.training.batches import plain_batches

if TYPE_CHECKING:
    import numpy.typing as npt
    import tf_keras

# Validation images that show what pixels a model expects, and how many at once.
PIXEL_IMAGES, BATCH = 500, 50


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
            if not _report_pixels(candidate.model, context):
                _report_uninformed(candidate.model, context)
        else:
            context.trainer.fit(candidate.model)
        return candidate


def _report_pixels(model: tf_keras.Model, context: Context) -> bool:
    """Say so where a model that came trained is right significantly more often with another `model.pixels`."""
    if not context.other_pixels:
        return False
    split = context.trainer.data.validation
    count = min(len(split), PIXEL_IMAGES)
    batch = min(BATCH, context.trainer.settings.batch_size)

    def right(seen: Callable[[Any], Any]) -> npt.NDArray[np.bool_]:
        answers: list[npt.NDArray[np.int64]] = []
        for first in range(0, count, batch):
            images = np.asarray(split.images[first : min(first + batch, count)], np.float32)
            answers.append(np.asarray(model(seen(images), training=False)).argmax(axis=1))
        found: npt.NDArray[np.bool_] = np.concatenate(answers) == split.labels[:count]
        return found

    own = right(lambda images: images)
    others = {name: right(seen) for name, seen in context.other_pixels.items()}
    best = max(others, key=lambda name: int(others[name].sum()))
    # The best of several is better by chance more often.
    if mcnemar(others[best], own, "greater") * len(others) >= SIGNIFICANCE:
        return False
    context.report(
        f"the model as it is answers {own.mean():.1%} of {count} validation images rightly, and "
        f"{others[best].mean():.1%} if it gets their pixels as {best}: set model.pixels={best}"
    )
    return True


def _report_uninformed(model: tf_keras.Model, context: Context) -> None:
    """Say so where a model that came trained answers the validation images no better than one constant answer."""
    data = context.trainer.data
    batches = plain_batches(data.validation, context.trainer.settings.batch_size)
    answers = model.predict(batches, verbose=0).argmax(axis=1)
    constant = verdict.majority(answers, data.validation.labels, data.class_names)
    if verdict.no_better_than_majority(constant) is None:
        return
    right = float((answers == data.validation.labels).mean())
    context.report(
        f"the model as it is answers {right:.1%} of {len(answers)} validation images rightly, which is no better than "
        f"always answering {constant.answer!r} ({constant.share:.1%}; one-sided exact McNemar test, "
        f"p = {constant.p_value:.2g}). The usual causes are model.pixels, now for a model that expects other values, "
        "and the order of the classes: name it with model.class_names"
    )
