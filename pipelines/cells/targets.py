"""Classes that older configurations and stored runs name by the module that held them then."""

from __future__ import annotations

MOVED = {
    "pipelines.training.Training": "pipelines.training.trainer.Training",
    "pipelines.score.OperationalScore": "pipelines.results.score.OperationalScore",
    "pipelines.measure.session.Settings": "pipelines.litert.session.Settings",
}


def current(target: str) -> str:
    """The dotted name under which a class is found today."""
    return MOVED.get(target, target)
