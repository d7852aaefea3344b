"""The checks before a training, and the images that they load."""

from dataclasses import dataclass

import pytest

from pipelines.datasets.digits import Digits
from pipelines.execution.preflight import loaded, preflight
from tests.cells.test_config import composed


@dataclass(frozen=True, kw_only=True)
class Weighted(Digits):
    """A user's own dataset, with settings that have no hash."""

    weights: list[float]


def test_dataset_with_a_list_among_its_settings_is_loaded_once() -> None:
    def one(*weights: float) -> Weighted:
        return Weighted(limit_train=60, limit_test=40, validation_fraction=0.2, weights=list(weights))

    assert loaded(one(1, 2)) is loaded(one(1, 2))
    assert loaded(one(1, 2)) is not loaded(one(1, 3))


def test_rates_for_adam_are_no_rates_for_sgd() -> None:
    words = ["training.optimizer=sgd", "technique=cluster"]
    with pytest.raises(ValueError, match=r"training.learning_rate must be set with training.optimizer=sgd, as the net"):
        preflight(composed(*words))
    preflight(composed(*words, "training.learning_rate=0.01"))
