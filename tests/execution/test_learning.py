"""Whether a cell has learnt anything: through the command, in processes of their own."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.places import Place

pytestmark = pytest.mark.slow

SENTENCE = "no better than always answering 'heads' ("


@pytest.fixture(scope="module")
def coins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, str]:
    """A store with a finished cell that had nothing to learn, as labels are random, and what its command printed."""
    place = Place(tmp_path_factory.mktemp("coins"))
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 100)
    labels[-20:] = [0] * 11 + [1] * 9
    images = random.integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)
    file = place.folder / "coins.npz"
    np.savez(
        file,
        x_train=images[:80],
        y_train=labels[:80],
        x_test=images[80:],
        y_test=labels[80:],
        class_names=np.array(["heads", "tails"]),
    )
    limits = [f"dataset.limit_{part}=null" for part in ("train", "test")]
    done = place.run("dataset=npz", f"dataset.path={file}", *limits, "technique=baseline", "training.epochs=1")
    assert done.returncode == 0, done.stdout + done.stderr
    return place, done.stdout


def test_uninformed_cell_is_reported_everywhere(coins: tuple[Place, str]) -> None:
    place, printed = coins
    (run,) = place.cells()
    assert f"{SENTENCE}55.0% of the test images)" in " ".join(printed.split())
    assert SENTENCE in run.data.tags["mlflow.note.content"]
    assert run.data.metrics["test/majority_share"] == 0.55
    assert run.data.metrics["model/delegate_partitions"] == 1
    assert json.loads(run.data.tags["opscore.delegated"]) == {"partitions": 1, "undelegated": {}, "int16": False}
    compared = place.opscore("compare", "dataset=coins", "experiment=mine")
    assert compared.returncode == 0 and SENTENCE in " ".join(compared.stdout.split()), compared.stdout + compared.stderr
    assert "The fittest cell that loses at most" not in compared.stdout


def test_uninformed_cell_is_not_promoted(coins: tuple[Place, str]) -> None:
    refused = coins[0].opscore("promote", "dataset=coins", "experiment=mine")
    assert refused.returncode == 1
    assert SENTENCE in refused.stderr and "none of the candidates" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not coins[0].client.search_prompts()


def test_vgg_learns_from_random_weights_with_the_defaults(tmp_path: Path) -> None:
    place = Place(tmp_path)
    words = ["model=vgg16", "model.weights=null", "technique=baseline", "dataset.limit_train=600"]
    done = place.run(*words, "training.epochs=3", "training.batch_size=16")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = place.cells()
    assert run.data.metrics["test/accuracy"] > 0.3
    assert run.data.metrics["test/majority_p_value"] < 1e-3
