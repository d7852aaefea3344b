"""Techniques as a user may write them, reached through `technique._target_`."""

import os
from dataclasses import dataclass
from pathlib import Path

from pipelines.techniques.base import Candidate, Context, EffectError
from pipelines.techniques.baseline import Baseline
from pipelines.techniques.quantize_aware import QuantizeAware


@dataclass(frozen=True, kw_only=True)
class Unsure(QuantizeAware):
    """A technique that does not trust its exported model as long as the environment holds UNSURE."""

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """Raise EffectError on the day on which it is unsure."""
        if os.environ.get("UNSURE"):
            raise EffectError("unsure today")


@dataclass(frozen=True, kw_only=True)
class Card(Baseline):
    """A baseline that prints which cards and threads its process may use."""

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Print them."""
        for name, variable in (("cards", "CUDA_VISIBLE_DEVICES"), ("threads", "TF_NUM_INTRAOP_THREADS")):
            print(f"{name}: {os.environ.get(variable)}", flush=True)
        return super().apply(candidate, context)
