"""What a run of MLflow's becomes in a comparison."""

import hashlib
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pipelines.cells.cell import parts_of
from pipelines.results.metrics import flatten
from pipelines.system.errors import StoreError
from pipelines.tracking.cell_of_run import cell_of
from pipelines.tracking.cell_run import _files_of
from pipelines.tracking.registry import Registry
from pipelines.tracking.store import Store
from tests.cells.test_config import composed
from tests.places import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("place"))


@pytest.mark.parametrize(
    ("setting", "tags", "expected"),
    [
        ("auto", {"precision": "mixed_bfloat16"}, {"training.precision": "bfloat16"}),
        ("True", {"precision": "mixed_bfloat16"}, {"training.precision": "bfloat16"}),
        ("auto", {"precision": "float32"}, {"training.precision": "float32"}),
    ],
)
def test_precision_is_what_was_computed_in(
    place: Place, setting: str, tags: dict[str, str], expected: dict[str, str]
) -> None:
    client: MlflowClient = place.client
    run = client.create_run(place.experiment, tags=tags)
    client.log_param(run.info.run_id, "training.mixed_precision", setting)
    client.log_param(run.info.run_id, "training.epochs", "3")
    assert cell_of(client.get_run(run.info.run_id)).params == {"training.epochs": "3"} | expected


@pytest.mark.parametrize("teacher", ["technique.source", "technique.steps.distill.source"])
def test_a_teachers_file_is_told_by_its_content(teacher: str, tmp_path: Path) -> None:
    (tmp_path / "best.keras").write_bytes(b"a model")
    technique = "distill" if teacher == "technique.source" else "distill_quantize_int8"
    words = (
        f"technique={technique}",
        f"model@{teacher}.model=keras_file",
        f"{teacher}.model.path={tmp_path}/best.keras",
    )
    cell = composed(*words, f"{teacher}.model.name=best")
    told = _files_of(cell, dict(flatten(parts_of(cell))))
    assert told == {f"{teacher}.model.file_sha256": hashlib.sha256(b"a model").hexdigest()}


def test_lost_run_is_one_kind_of_error(place: Place) -> None:
    for reader in (Store.existing(place.uri, place.name), Registry(place.uri)):
        with pytest.raises(StoreError, match=f"the run {'0' * 32} is lost"):
            reader.cell("0" * 32)
    deleted = place.client.create_run(place.experiment, run_name="net-digits-qat").info.run_id
    place.client.delete_run(deleted)
    # Its files are there still: one may fetch a champion without its run.
    assert Registry(place.uri).cell(deleted).name == "net-digits-qat"
