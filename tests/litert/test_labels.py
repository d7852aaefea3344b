"""Class names inside an exported model."""

import shutil
import zipfile

import numpy as np
import pytest

from pipelines.litert.exported_model import ExportedModel, tensor_dtypes
from pipelines.litert.labels import append_labels

NAMES = tuple(f"class {index}" for index in range(10))


def test_labels_travel_and_change_no_answer(made, images, tmp_path):
    for name in ("float32", "int8"):
        path = shutil.copy(made / f"{name}.tflite", tmp_path)
        assert ExportedModel(path).labels == ()
        append_labels(path, NAMES, classes=10)
        labelled = ExportedModel(path)
        assert labelled.labels == NAMES
        assert np.array_equal(labelled.logits(images), ExportedModel(made / f"{name}.tflite").logits(images))
        assert tensor_dtypes(path) == tensor_dtypes(made / f"{name}.tflite")
        assert zipfile.ZipFile(path).read("labels.txt").decode().split("\n") == list(NAMES)


def test_equal_labels_give_same_bytes(made, tmp_path):
    paths = [shutil.copy(made / "int8.tflite", tmp_path / name) for name in ("a.tflite", "b.tflite")]
    append_labels(paths[0], NAMES, classes=10)
    append_labels(paths[1], NAMES, classes=10)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert zipfile.ZipFile(paths[0]).infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (NAMES[:9], "one for each of the 10 classes of .*, got 9"),
        ((*NAMES[:9], "a\nb"), "one non-empty line, got 'a.nb'"),
        ((*NAMES[:9], ""), "one non-empty line, got ''"),
    ],
)
def test_labels_that_do_not_fit_are_refused(made, tmp_path, labels, message):
    path = shutil.copy(made / "int8.tflite", tmp_path / "copy.tflite")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        append_labels(path, labels, classes=10)
    assert path.read_bytes() == before


def test_labels_are_written_once(made, tmp_path):
    path = shutil.copy(made / "int8.tflite", tmp_path / "copy.tflite")
    append_labels(path, NAMES, classes=10)
    with pytest.raises(ValueError, match="must have no labels yet, got 10"):
        append_labels(path, NAMES, classes=10)
