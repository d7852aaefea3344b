"""Classes that older configurations and stored runs name by a former module."""

from __future__ import annotations

MOVED = {
    "pipelines.training.Training": "pipelines.training.trainer.Training",
    "pipelines.score.OperationalScore": "pipelines.results.score.OperationalScore",
    "pipelines.measure.session.Settings": "pipelines.litert.session.Settings",
}


def current(target: str) -> str:
    """The present dotted name of a class."""
    return MOVED.get(target, target)
