"""The baseline: the whole model is trained, unless it comes trained; nothing is optimized."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.techniques.base import Candidate, Context, Technique


@dataclass(frozen=True, kw_only=True)
class Baseline(Technique):
    """Fine-tune every layer and export in float32. All other cells of its model and dataset are compared with it."""

    NAME = "baseline"
    EFFECT = None
    parent = None

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Fit the whole model, unless its weights are taken as they are."""
        if not context.trained:
            context.trainer.fit(candidate.model)
        return candidate
