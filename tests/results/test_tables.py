from wcwidth import width

from pipelines.results.tables import aligned, markdown


def test_columns_of_wide_characters_are_aligned() -> None:
    lines = aligned([("cell", "x"), ("花花", "1"), ("फूल", "22"), ("Blüten", "3")]).splitlines()
    assert lines == ["cell     x", "花花     1", "फूल      22", "Blüten   3"]
    assert {width(line) for line in lines} == {10}


def test_a_bar_starts_no_column_of_a_markdown_table() -> None:
    assert markdown([("a", "b"), ("1|2", "\\|")]) == "| a | b |\n|---|---|\n| 1\\|2 | \\| |"
