"""What a run of MLflow's becomes in a comparison."""

import pytest
from mlflow import MlflowClient

from pipelines.tracking.recorded import recorded
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
    assert recorded(client.get_run(run.info.run_id)).params == {"training.epochs": "3"} | expected
