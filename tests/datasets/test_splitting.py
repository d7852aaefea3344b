from collections import Counter

import numpy as np
import pytest

from pipelines.datasets import base, splitting
from pipelines.datasets.npz import Npz
from tests.datasets.tiny import tiny, write


def numbers(split: base.Split) -> list[int]:
    return split.images[:, 0, 0, 0].tolist()


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "tiny.npz", tiny())


@pytest.mark.parametrize(
    ("counts", "size", "leave", "expected"),
    [
        ([5, 3, 2], 5, 0, [3, 1, 1]),  # quotas 2.5, 1.5, 1
        ([10, 20, 30], 7, 0, [1, 2, 4]),  # quotas 1.17, 2.33, 3.5
        ([100, 2, 2], 4, 0, [2, 1, 1]),  # quotas 3.85, 0.08, 0.08, but one each
        ([4, 4], 6, 1, [3, 3]),
        ([10, 2], 9, 1, [8, 1]),  # quotas 7.5, 1.5, but one of the second must stay
        ([5, 3, 2], 10, 0, [5, 3, 2]),
    ],
)
def test_places_are_shared_by_largest_remainder(counts, size, leave, expected):
    labels = np.repeat(np.arange(len(counts)), counts)
    drawn = splitting._draw(labels, size, seed=0, leave=leave)
    assert np.bincount(labels[drawn]).tolist() == expected
    assert len(set(drawn.tolist())) == size


@pytest.mark.parametrize(
    ("labels", "fraction", "sentence"),
    [
        (
            [0, 0, 1, 1, 2, 2, 2],
            0.1,
            "f must take an image of each of the 3 classes and leave an image of each, got 0.1 of 7 images, which is "
            "1: set f=0.358, or up to 0.642",
        ),
    ],
)
def test_impossible_split_is_refused(labels, fraction, sentence):
    with pytest.raises(ValueError) as caught:
        splitting.stratified_split(np.array(labels), fraction, seed=0, field="f")
    assert str(caught.value) == sentence


def test_splits_are_disjoint_complete_and_stratified(file):
    data = Npz(path=str(file), validation_fraction=0.2).load()
    train, validation = numbers(data.train), numbers(data.validation)
    assert sorted(train + validation) == list(range(30))
    assert Counter(data.validation.labels.tolist()) == {0: 2, 1: 2, 2: 2}
    assert Counter(data.train.labels.tolist()) == {0: 8, 1: 8, 2: 8}
    assert sorted(numbers(data.test)) == list(range(100, 112))
    for split in (data.train, data.validation, data.test):
        assert [number % 3 for number in numbers(split)] == split.labels.tolist()
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int64
    assert train != sorted(train)
    assert data.image_shape == (4, 4, 3)
    assert data.class_names == ("bee", "cat", "dog")


@pytest.mark.parametrize(
    ("parts", "few", "sentence"),
    [
        ((), 2, "3 images, one each for training, validation and testing, got 2 of 'bee'"),
        (("test",), 1, "2 images, one each for training and validation, got 1 of 'bee'"),
        (("validation",), 1, "2 images, one each for training and testing, got 1 of 'bee'"),
    ],
)
def test_class_with_too_few_images_is_named(parts, few, sentence):
    labels = {"train": np.repeat([0, 1], [9, few])} | {part: np.array([0, 1]) for part in parts}
    with pytest.raises(ValueError) as caught:
        Npz(path="a.npz").partition(labels, ("ant", "bee"), 0.2)
    assert str(caught.value) == f"a class must have at least {sentence}: add images of it, or leave the class out"


def test_fraction_that_the_message_names_works():
    labels, names = {"train": np.repeat([0, 1, 2], 3)}, ("ant", "bee", "cat")
    with pytest.raises(ValueError, match=r"leave 2 images of each, got 0\.6 of 9 images, which is 5") as caught:
        Npz(path="a.npz").partition(labels, names, 0.6)
    # From 2.5 images on, and up to 3.5.
    assert str(caught.value).endswith(": set dataset.test_fraction=0.278, or up to 0.388")
    for fraction in (0.278, 0.388):
        chosen = Npz(path="a.npz", validation_fraction=0.5).partition(labels, names, fraction)
        assert [len(index) for _, index in chosen.values()] == [3, 3, 3]


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.8])
def test_class_of_three_images_is_in_each_split(fraction):
    labels = np.repeat([0, 1], [300, 3])
    chosen = Npz(path="a.npz").partition({"train": labels}, ("ant", "bee"), fraction)
    assert all(1 in labels[index] for _, index in chosen.values())


def test_seed_decides_the_splits(file):
    first, again, other = (Npz(path=str(file), split_seed=seed).load() for seed in (0, 0, 1))
    assert numbers(first.train) == numbers(again.train)
    assert first.digest == again.digest
    assert set(numbers(first.validation)) != set(numbers(other.validation))
    assert first.digest != other.digest


def test_limits_are_exact_and_taken_before_validation(file):
    data = Npz(path=str(file), limit_train=20, limit_test=5, validation_fraction=0.25).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (15, 5, 5)
    both = np.concatenate([data.train.labels, data.validation.labels])
    assert sorted(Counter(both.tolist()).values()) == [6, 7, 7]
    assert sorted(Counter(data.test.labels.tolist()).values()) == [1, 2, 2]


@pytest.mark.parametrize("own", [False, True])
def test_limit_of_more_than_there_are_takes_all(tmp_path, own):
    """In a sweep, one limit is for datasets of several sizes. own: with validation images of the source."""
    arrays = tiny() | ({"x_validation": tiny()["x_test"] + 50, "y_validation": tiny()["y_test"]} if own else {})
    path = str(write(tmp_path / "tiny.npz", arrays))
    limited = Npz(path=path, limit_train=43, limit_test=13).load()
    assert limited.digest == Npz(path=path).load().digest
    total = 42 if own else 30
    assert (len(limited.train) + len(limited.validation), len(limited.test)) == (total, 12)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"limit_train": 2},
            "dataset.limit_train must give each of 3 classes images for training and for validation, got 2 with "
            "dataset.validation_fraction=0.1: set dataset.limit_train=26",
        ),
        (
            {"limit_train": 20},
            "dataset.limit_train must give each of 3 classes images for training and for validation, got 20 with "
            "dataset.validation_fraction=0.1: set dataset.limit_train=26",
        ),
    ],
)
def test_limit_that_cannot_be_met_is_refused(file, settings, sentence):
    with pytest.raises(ValueError) as caught:
        Npz(path=str(file), **settings).load()
    assert str(caught.value) == sentence


def test_limit_of_the_refusal_is_taken():
    labels = np.repeat(np.arange(10), 20)
    for limit in range(1, len(labels)):
        try:
            splitting.check_limit(labels, limit, 0.1)
        except ValueError as error:
            mended = int(str(error).rpartition("=")[2])
            assert mended > limit
            splitting.check_limit(labels, mended, 0.1)
    with pytest.raises(ValueError, match=r"limit_train=95$"):
        splitting.check_limit(labels, 5, 0.1)


def test_limit_is_not_blamed_where_all_images_are_too_few():
    labels = np.repeat(np.arange(3), 8)
    with pytest.raises(ValueError, match=r"validation_fraction must .* got 0.1 of 24 images, which is 2: set .*=0.105"):
        splitting.check_limit(labels, 5, 0.1)
    with pytest.raises(ValueError, match=r"set dataset.limit_train=24$"):
        splitting.check_limit(labels, 5, 0.105)
    splitting.check_limit(labels, 24, 0.105)
