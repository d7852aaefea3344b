"""The outcome of one cell of a sweep."""

from dataclasses import dataclass, field
from typing import Literal

from pipelines.results.json_record import Record

Status = Literal["done", "reused", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Outcome(Record):
    """How one cell of a sweep ended.

    status: done, computed in this sweep; reused, found in the store; skipped, technique and model do not go together.
    number: its place in the grid, from 0; -1 until its job states it, with overrides (those of the grid) and seconds.
    run_id, metrics (by MLflow name): empty where it has no result; run_id is known where its process was killed.
    message: why it was skipped or failed. spent: seconds by part (`pipelines/system/stopwatch.py`) of its process, with
    the cells that it ran first; empty where they are not known.
    """

    name: str
    status: Status
    number: int = -1
    overrides: tuple[str, ...] = ()
    seconds: float = 0.0
    run_id: str = ""
    message: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
