"""The figures of a technique, as far as they can be recorded: one that cannot must not cost the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipelines.results.json_record import in_json
from pipelines.techniques.base import Table

Report = Callable[[str], None]


def numbers(metrics: Mapping[str, object], report: Report) -> dict[str, float]:
    """Metrics as floats, also those of TensorFlow; reports what is no number."""
    found: dict[str, float] = {}
    for name, value in metrics.items():
        try:
            found[name] = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            report(f"metrics[{name!r}] of the technique must be a number, got {type(value).__name__}: it is left out")
    return found


def tables(given: Mapping[str, Table], report: Report) -> dict[str, Table]:
    """Tables whose columns JSON can hold; reports the others."""
    found = {}
    for name, table in given.items():
        try:
            in_json(table)
            found[name] = table
        except (TypeError, ValueError) as error:
            report(f"tables[{name!r}] of the technique is left out: {error}")
    return found
