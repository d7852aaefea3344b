"""Techniques as a user may write them, reached through `technique._target_`."""

import os
from dataclasses import dataclass
from pathlib import Path

from pipelines.techniques.base import Candidate, EffectError
from pipelines.techniques.quantize_aware import QuantizeAware


@dataclass(frozen=True, kw_only=True)
class Unsure(QuantizeAware):
    """A technique that does not trust its exported model as long as the environment holds UNSURE."""

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """Raise EffectError on the day on which it is unsure."""
        if os.environ.get("UNSURE"):
            raise EffectError("unsure today")
