"""What is compared with what."""

import pytest

from pipelines.comparison.groups import groups_of
from pipelines.comparison.ranking import compare
from pipelines.results.recorded_cell import RecordedCell
from tests.comparison.recorded import recorded

QUICK = {"measurement.min_calls": "50", "measurement.timeout_s": "60"}
DEFAULT = {"measurement.min_calls": "1000", "measurement.timeout_s": "600"}


def titles(*cells: RecordedCell) -> dict[str, list[str]]:
    return {str(title): [cell.technique for cell in of_one] for title, of_one in groups_of(cells).items()}


def test_cells_that_compare_are_one_group_by_name() -> None:
    cells = [recorded("baseline"), recorded("cluster", seed=1, training="other", params={"training.epochs": "2"})]
    assert titles(*cells) == {"cifar10": ["baseline", "cluster"]}


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ({"images": 100}, {"images": 1000}, ["cifar10 (1,000 test images)", "cifar10 (100 test images)"]),
        (
            {"images": 100, "digest": "a" * 32},
            {"images": 1000, "digest": "b" * 32},
            ["cifar10 (1,000 test images)", "cifar10 (100 test images)"],
        ),
        (
            {"digest": "a" * 32},
            {"digest": "b" * 32},
            ["cifar10 (images aaaaaaaa)", "cifar10 (images bbbbbbbb)"],
        ),
        ({"hardware": "one"}, {"hardware": "two"}, ["cifar10 (on one)", "cifar10 (on two)"]),
        (
            {"params": DEFAULT},
            {"params": QUICK},
            ["cifar10 (measurement.min_calls=1000)", "cifar10 (measurement.min_calls=50)"],
        ),
        (
            {"params": {"score.max_size_mb": "5"}},
            {"params": {"score.max_size_mb": "None"}},
            ["cifar10 (score.max_size_mb=5)", "cifar10 (score.max_size_mb=null)"],
        ),
    ],
)
def test_what_does_not_compare_is_apart(one: dict[str, object], two: dict[str, object], expected: list[str]) -> None:
    cells = [recorded("baseline", **one), recorded("cluster", **two)]  # type: ignore[arg-type]
    assert list(titles(*cells)) == expected
    assert [str(comparison.title) for comparison in compare(cells)] == expected


def test_equal_images_of_two_names_are_compared() -> None:
    cells = [recorded("baseline", dataset="photos"), recorded("cluster", dataset="photos_npz")]
    assert titles(*cells) == {"photos, photos_npz": ["baseline", "cluster"]}


def test_without_a_digest_the_name_counts() -> None:
    cells = [recorded("baseline", digest="", dataset="one"), recorded("cluster", digest="", dataset="two")]
    assert titles(*cells) == {"one": ["baseline"], "two": ["cluster"]}


def test_two_contents_of_one_name_are_not_averaged_as_seeds() -> None:
    seeds = [recorded("cluster", seed=n, digest=str(n), accuracy=accuracy) for n, accuracy in ((0, 0.99), (1, 0.15))]
    assert [len(comparison.entries[0].runs) for comparison in compare(seeds)] == [1, 1]


def test_numbers_are_compared_by_their_value() -> None:
    # As a command line and a yaml file write them.
    cells = [recorded("baseline", params={"score.size": "1"}), recorded("cluster", params={"score.size": "1.0"})]
    assert titles(*cells) == {"cifar10": ["baseline", "cluster"]}
