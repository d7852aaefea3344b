import os

# Keras 2 for tensorflow-model-optimization; both must stand before TensorFlow is imported anywhere.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pipelines.datasets.base import Dataset, ImageData
from pipelines.models.small_cnn import SmallCNN
from pipelines.techniques.base import Candidate, Chain, Context
from tests.commands import end_what_was_started

SMALL_CNN = SmallCNN(width=32, weights=None, input_size=None, dropout=0.0, onednn=True)


@cache
def small_data() -> tuple[ImageData, Dataset]:
    """300 real digits, and the dataset they come from."""
    from pipelines.datasets.digits import Digits

    dataset = Digits(limit_train=300, limit_test=100, validation_fraction=0.2)
    return dataset.load(), dataset


def context(epochs: int = 8) -> Context:
    """What a technique works with on the small data: batches of 32, Adam from 3e-3."""
    from pipelines.training import Trainer, Training

    data, dataset = small_data()
    settings = Training(
        epochs=epochs,
        batch_size=32,
        optimizer="adam",
        learning_rate=3e-3,
        patience=epochs,
        mixed_precision=False,
    )
    trainer = Trainer(settings=settings, data=data, dataset=dataset, seed=0, on_epoch=lambda *_: None)
    return Context(trainer=trainer, say=lambda _: None)


def through(chain: Chain, candidate: Candidate, it: Context) -> Candidate:
    """All steps of a chain; in a cell, those before the last are cells of their own."""
    for step in chain.steps.values():
        candidate = step.apply(candidate, it)
    return candidate


def exported(candidate: Candidate, path: Path) -> Path:
    """The candidate's artifact, by the real converter."""
    from pipelines.export import export

    data, _ = small_data()
    export(candidate, training_images=data.train.images, labels=data.class_names, path=path)
    return path


def artifact_accuracy(path: Path) -> float:
    """Accuracy of an artifact on the 100 test digits, by LiteRT."""
    from pipelines.measure.litert import Artifact

    data, _ = small_data()
    return float((Artifact(path).logits(data.test.images).argmax(axis=1) == data.test.labels).mean())


@pytest.fixture(scope="session")
def trained_once() -> Candidate:
    from pipelines.techniques.baseline import Baseline

    data, _ = small_data()
    it = context()
    candidate = Baseline().apply(Candidate(model=SMALL_CNN.build(data.image_shape, 10)), it)
    assert it.trainer.epochs[-1]["val_accuracy"] > 0.9
    return candidate


@pytest.fixture
def trained(trained_once: Candidate) -> Candidate:
    """A copy of a small network that was trained on the small data: a test may change it."""
    from pipelines.models.checkpoint import duplicate

    return Candidate(model=duplicate(trained_once.model))


@pytest.fixture(scope="session")
def baseline_artifact(trained_once: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(trained_once, tmp_path_factory.mktemp("baseline") / "model.tflite")


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    """A test that fails half-way must not leave trainings behind."""
    yield
    end_what_was_started()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: the quick ones fill what is left, and no worker waits for another at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
