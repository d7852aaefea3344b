"""A student learns what its teacher knows, whatever the labels say."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.datasets.digits import Digits
from pipelines.models.small_cnn import SmallCNN
from pipelines.results.folder import CellFiles, Finished
from pipelines.techniques.base import Candidate, Context, EffectError
from pipelines.techniques.distill import Distill
from pipelines.techniques.source import Source
from pipelines.training.trainer import Trainer
from tests.conftest import SMALL_CNN, context, exported, exported_accuracy, small_data, with_trainer
from tests.results.test_summary import RESULT

TEACHER = Source(model=SMALL_CNN, dataset=None, uri=None)
STUDENT = SmallCNN(width=8, weights=None, input_size=None, dropout=0.0, onednn=True)


def distill(**changed: Any) -> Distill:
    fields: dict[str, Any] = {"source": TEACHER, "temperature": 4.0, "alpha": 0.9}
    return Distill(**fields | changed)


def taught_by(teacher: Any, folder: Path, epochs: int) -> Context:
    files = CellFiles(folder)
    teacher.save(files.checkpoint)
    return dataclasses.replace(context(epochs), source=Finished(result=RESULT, files=files))


@pytest.mark.slow
def test_student_learns_from_its_teacher_alone(trained: Candidate, tmp_path: Path) -> None:
    """Labels at random: whoever answers right has learnt it from the teacher."""
    it = taught_by(trained.model, tmp_path, epochs=25)
    train = it.trainer.data.train
    wrong = dataclasses.replace(train, labels=np.random.default_rng(0).permutation(train.labels))
    data = dataclasses.replace(it.trainer.data, train=wrong)
    old = it.trainer
    trainer = Trainer(settings=old.settings, data=data, dataset=old.dataset, seed=0, on_epoch=old.on_epoch)
    small, _ = small_data()
    student = Candidate(model=STUDENT.build(small.image_shape, 10))
    done = distill(alpha=1.0).apply(student, dataclasses.replace(it, trainer=trainer))
    assert exported_accuracy(exported(done, tmp_path / "model.tflite")) > 0.8
    assert done.metrics["distill/teacher_agreement"] > 0.8
    assert done.metrics["distill/teacher_val_accuracy"] > 0.9
    losses = [epoch["teacher_loss"] for epoch in trainer.epochs]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.slow
def test_labels_count_as_much_as_alpha_leaves_them(trained: Candidate, tmp_path: Path) -> None:
    small, _ = small_data()
    it = taught_by(SMALL_CNN.build(small.image_shape, 10), tmp_path, epochs=25)
    # An untrained teacher knows nothing: the labels must do.
    done = distill(alpha=0.1).apply(Candidate(model=STUDENT.build(small.image_shape, 10)), it)
    assert exported_accuracy(exported(done, tmp_path / "model.tflite")) > 0.8


def test_student_that_has_not_changed_is_refused(trained: Candidate, tmp_path: Path) -> None:
    small, _ = small_data()
    it = with_trainer(taught_by(trained.model, tmp_path, epochs=1), lambda _: None)
    with pytest.raises(EffectError, match="must change in training, got equal weights"):
        distill().apply(Candidate(model=STUDENT.build(small.image_shape, 10)), it)


def test_teacher_of_other_classes_is_refused_first(trained: Candidate) -> None:
    small, _ = small_data()
    mend = "name a teacher that was trained on this dataset"
    by_run = distill(source=Source(model=None, dataset=None, uri=f"runs:/{'0' * 32}"))
    with pytest.raises(ValueError, match=rf"gives \(10,\), the student \(8, 8, 3\) and \(7,\): {mend}"):
        by_run.check_source(lambda: STUDENT.build(small.image_shape, 7), lambda: trained.model)
    by_run.check_source(lambda: STUDENT.build(small.image_shape, 10), lambda: trained.model)
    by_run.check_source_classes(("cat", "dog"), ("cat", "dog"))
    # Of a file without labels nothing is known.
    by_run.check_source_classes(("cat", "dog"), ())
    for other, what in (
        (("dog", "cat"), "class 0 named 'dog' instead of 'cat'"),
        (("cat", "shoe"), "class 1 named 'shoe' instead of 'dog'"),
        (("cat", "dog", "owl"), "3 classes"),
    ):
        with pytest.raises(ValueError, match=rf"must have the dataset's 2 classes in its order, got {what}: {mend}"):
            by_run.check_source_classes(("cat", "dog"), other)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"temperature": 0}, "technique.temperature must be a number, more than 0"),
        ({"alpha": 0}, "technique.alpha must be a number, more than 0"),
        ({"alpha": 1.5}, "at most 1, got 1.5"),
        (
            {
                "source": Source(
                    model=None, dataset=Digits(limit_train=1, limit_test=1, validation_fraction=0.1), uri=None
                )
            },
            "technique.source.dataset must be null, got digits",
        ),
    ],
)
def test_bad_values(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distill(**changed)
