import pytest

from pipelines.tracking import tags


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"opscore.folder": "new", "folder": "old"}, "new"),
        ({"folder": "old"}, "old"),
        ({"opscore.folder": "new"}, "new"),
        ({}, ""),
    ],
)
def test_a_tag_is_read_under_both_names(given: dict[str, str], expected: str) -> None:
    assert tags.read(given, tags.FOLDER) == expected


def test_filters_for_both_names() -> None:
    condition = "tags.`opscore.process` LIKE 'a%' and tags.technique != ''"
    assert tags.filters(condition) == (condition, "tags.`process` LIKE 'a%' and tags.technique != ''")
    assert tags.filters("tags.sweep != ''") == ("tags.sweep != ''",)
