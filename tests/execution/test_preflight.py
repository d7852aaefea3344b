"""The checks before a training, and the images that they load."""

from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import pytest

from pipelines.datasets.digits import Digits
from pipelines.execution import cell_main, file_compatibility, grid_preflight
from pipelines.execution.preflight import loaded, preflight
from pipelines.execution.request import CellRequest
from pipelines.system.guard import MisuseError
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


def test_error_of_the_system_has_its_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cell, in a grid, and where techniques are listed."""
    cell, error = composed("technique=baseline"), PermissionError(13, "Permission denied", "a.npz")
    sentence = "a.npz: Permission denied: allow this user to use it, or choose another place"
    monkeypatch.setattr("pipelines.execution.preflight.preflight", Mock(side_effect=error))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(MisuseError, match=f"^{sentence}$"):
        cell_main.checked_store(CellRequest(cell=cell, uri=uri, experiment="a", since=0, patience_s=0))
    with pytest.raises(MisuseError, match=f"^{sentence}$"):
        next(file_compatibility.lines(["model=small_cnn"], []))
    monkeypatch.setattr(grid_preflight, "cell_of", lambda _: cell)
    assert grid_preflight._cell_or_reason(Mock()) == sentence
