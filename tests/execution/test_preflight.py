"""The images that the checks before a training load."""

from dataclasses import dataclass

from pipelines.datasets.digits import Digits
from pipelines.execution.preflight import loaded


@dataclass(frozen=True, kw_only=True)
class Weighted(Digits):
    """A user's own dataset, with settings that have no hash."""

    weights: list[float]


def test_dataset_with_a_list_among_its_settings_is_loaded_once() -> None:
    def one(*weights: float) -> Weighted:
        return Weighted(limit_train=60, limit_test=40, validation_fraction=0.2, weights=list(weights))

    assert loaded(one(1, 2)) is loaded(one(1, 2))
    assert loaded(one(1, 2)) is not loaded(one(1, 3))
