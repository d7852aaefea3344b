"""Techniques as a user may write them, reached through `technique._target_`."""

import os
from dataclasses import dataclass
from pathlib import Path

from pipelines.techniques.base import Candidate, Context, EffectError
from pipelines.techniques.baseline import Baseline


@dataclass(frozen=True, kw_only=True)
class Unsure(Baseline):
    """A baseline that does not trust its exported model as long as the environment holds UNSURE."""

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """Raise EffectError on the day on which it is unsure."""
        if os.environ.get("UNSURE"):
            raise EffectError("unsure today")


@dataclass(frozen=True, kw_only=True)
class Card(Baseline):
    """A baseline that prints which cards its process may use."""

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Print them."""
        print(f"cards: {os.environ.get('CUDA_VISIBLE_DEVICES')}", flush=True)
        return super().apply(candidate, context)
