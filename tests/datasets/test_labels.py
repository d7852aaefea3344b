"""Labels in the forms that people have."""

import unicodedata

import numpy as np
import pytest

from pipelines.datasets.labels import as_numbers


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0, 1, 3], r"must be 0, 1, \.\.\. without gaps, got no 2:"),
        ([1, 2, 4], r"must be 1, 2, \.\.\. without gaps, got no 3:"),
    ],
)
def test_missing_class_is_named_as_it_is_counted(labels: list[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        as_numbers({"y_train": np.array(labels)}, None, images={"y_train": ("x_train", 3)})


def test_class_names_are_composed_and_without_blanks_at_the_ends() -> None:
    given = np.array([unicodedata.normalize("NFD", "café"), " tea "])
    _, names, _ = as_numbers({"y_train": np.array([0, 1])}, given, images={"y_train": ("x_train", 2)})
    assert names == ("café", "tea")
