import math

import pytest
from wcwidth import width

from pipelines.results.tables import TextColumn, aligned, fitted, markdown, wrapped


def test_columns_of_wide_characters_are_aligned() -> None:
    lines = aligned([("cell", "x"), ("花花", "1"), ("फूल", "22"), ("Blüten", "3")]).splitlines()
    assert lines == ["cell     x", "花花     1", "फूल      22", "Blüten   3"]
    assert {width(line) for line in lines} == {10}


def test_a_bar_starts_no_column_of_a_markdown_table() -> None:
    assert markdown([("a", "b"), ("1|2", "\\|")]) == "| a | b |\n|---|---|\n| 1\\|2 | \\| |"


CELLS = [
    TextColumn(heading="model", texts=["efficientnet_lite0", "vgg16"], left=True),
    TextColumn(heading="technique", texts=["prune_filters_quantize_int8", "cluster k=4"], left=True),
    TextColumn(heading="nothing", texts=["", ""]),
    TextColumn(heading="accuracy", texts=["90.1%", "9.0%"]),
    TextColumn(heading="test ms", texts=["0.1", "1.25"]),
    TextColumn(heading="run", texts=["0123abcd", "4567abcd"], rank=2),
    TextColumn(heading="score dB", texts=["91.0", "88.1"], rank=1),
]


@pytest.mark.parametrize(
    ("limit", "lines"),
    [
        (
            math.inf,
            [
                "model               technique                    accuracy  test ms       run  score dB",
                "efficientnet_lite0  prune_filters_quantize_int8     90.1%      0.1  0123abcd      91.0",
                "vgg16               cluster k=4                      9.0%     1.25  4567abcd      88.1",
            ],
        ),
        (
            70,
            [
                "model               technique                    accuracy  test  score",
                "                                                             ms     dB",
                "efficientnet_lite0  prune_filters_quantize_int8     90.1%   0.1   91.0",
                "vgg16               cluster k=4                      9.0%  1.25   88.1",
                "(1 more column: --wide)",
            ],
        ),
        (
            50,
            [
                "model          technique       accuracy  test",
                "                                           ms",
                "efficientnet_  prune_filters_     90.1%   0.1",
                "lite0          quantize_int8",
                "vgg16          cluster k=4         9.0%  1.25",
                "(2 more columns: --wide)",
            ],
        ),
    ],
)
def test_table_fits_its_limit(limit: float, lines: list[str]) -> None:
    assert fitted(CELLS, limit).splitlines() == lines


@pytest.mark.parametrize("limit", [60, 80, 100])
def test_long_settings_are_folded_too(limit: int) -> None:
    settings = TextColumn(
        heading="settings", texts=["training.batch_size=32 training.epochs=1", "technique.sparsity=0.5"], left=True
    )
    assert max(map(len, fitted([*CELLS[:2], settings, *CELLS[3:]], limit).splitlines())) <= limit


def test_a_folded_text_keeps_its_spaces() -> None:
    column = TextColumn(heading="model", texts=["a_long_name_of_a_cell seed 0 花花花花花花花花花花"], left=True)
    assert fitted([column], 16).splitlines() == [
        "model",
        "a_long_name_of_",
        "a_cell seed 0",
        "花花花花花花花花",
        "花花",
    ]


def test_a_text_that_fits_keeps_its_indent() -> None:
    gates = TextColumn(heading="  gate", texts=["  learnt"], left=True)
    reasons = TextColumn(heading="reason", texts=["better than always answering 'flower'"], left=True)
    assert fitted([gates, reasons], 30).splitlines()[1].startswith("  learnt  better")


def test_a_command_in_a_sentence_stays_in_one_line() -> None:
    """Its beginning may be a command, too."""
    command = "`opscore measure --target kitchen-pi --sweep last`"
    assert command in wrapped(f"1 cell is left out, as figures are missing: {command} measures it.", 60).splitlines()[1]


def test_words_of_a_folded_text_stay_apart() -> None:
    columns = [
        TextColumn(heading="settings", texts=["pattern=unstructured sparsity=0.5"], left=True),
        TextColumn(heading="figure", texts=["1234567890"]),
    ]
    lines = fitted(columns, 23).splitlines()[1:]
    assert "".join(line[:11].rstrip() + " " for line in lines).split() == [
        "pattern=",
        "unstructure",
        "d",
        "sparsity=",
        "0.5",
    ]


def test_a_paragraph_of_wide_characters_fits_too() -> None:
    lines = wrapped("雪の結晶の写真 " * 12, 40).splitlines()
    assert len(lines) > 1 and all(width(line) <= 40 for line in lines)
