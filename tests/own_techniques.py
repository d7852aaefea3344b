"""Techniques as a user may write them, reached through `technique._target_`."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.techniques.base import Candidate, Context, EffectError
from pipelines.techniques.baseline import Baseline
from pipelines.techniques.quantize_aware import QuantizeAware


@dataclass(frozen=True, kw_only=True)
class Boasting(Baseline):
    """A technique of whose figures some cannot be recorded."""

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Train, and give all kinds of figures."""
        import tensorflow as tf

        done = super().apply(candidate, context)
        metrics: dict[str, Any] = {"own/loss": tf.reduce_mean([1.0, 3.0]), "own/shape": [8, 8]}
        # Names of opscore's own figures, and those that MLflow or a file system does not take.
        metrics |= {"test/accuracy": 1.0, "own/kept (%)": 0.5, "own/../up": 1.0}
        tables: dict[str, Any] = {"good": {"layer": ["a"], "share": [0.5]}, "bad": {"file": [Path("a")]}}
        tables["own/layers"] = tables["good"]
        return replace(done, metrics=metrics, tables=tables)


@dataclass(frozen=True, kw_only=True)
class Unsure(QuantizeAware):
    """A technique that does not trust its exported model as long as the environment holds UNSURE."""

    def verify(self, candidate: Candidate, exported_model: Path) -> None:
        """Raise EffectError on the day on which it is unsure."""
        if os.environ.get("UNSURE"):
            raise EffectError("unsure today")
