"""The report: one self-contained file, and figures for unusual selections."""

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from pipelines.report.bars import ranking
from pipelines.report.page import KINDS, write
from pipelines.report.rows import COLUMNS, rows
from pipelines.report.scatter import TRAIN, scatter
from pipelines.report.style import looks
from pipelines.report.words import reasons
from pipelines.results.recorded import RecordedCell
from tests.comparison.recorded import compared, recorded

CELLS = [
    recorded("baseline"),
    recorded("quantize_int8", megabytes=0.25, accuracy=0.79),
    recorded("cluster", megabytes=0.4, accuracy=0.7, p_value=0.001),
    replace(recorded("baseline", model="resnet50"), dataset="digits", digest="digits"),
]
FIGURES = {"ranking", "pareto", "heatmap", "accuracy_size", "training_accuracy", "sensitivity"}


@pytest.mark.slow
def test_the_page_loads_nothing_and_every_figure_is_there(tmp_path: Path) -> None:
    page, *figures = write(CELLS, tmp_path, chosen="")
    html = page.read_text()
    loaded = re.findall(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=[\"']?([^\"'> ]{5})", html)
    assert set(loaded) == {"data:"}
    assert "@import" not in html and "url(http" not in html
    assert {path.name for path in figures} == {f"{d}-{f}.png" for d in ("cifar10", "digits") for f in FIGURES}
    assert html.count("data:image/png;base64,") == len(figures)
    # What the page's own plot shows is a figure for browsers without JavaScript alone.
    shown = re.sub(r"<noscript>.*?</noscript>", "", html, flags=re.DOTALL)
    assert shown.count("data:image/png;base64,") == len(figures) / 2
    for path in figures:
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 2000
    assert html.count("<img") == len(re.findall(r"<img[^>]+alt=\"[^\"]+\"", html))
    assert "Which of these 3 cells is fit to be operated on cifar10?" in html
    assert "Is the one cell fit to be operated on digits?" in html
    assert "Highest score: vgg16-cifar10-quantize_int8" in html
    assert "2-D" in html and "cannot be tested" in html


def test_names_are_escaped(tmp_path: Path) -> None:
    nasty = replace(recorded("cluster"), model="</script><b>x", name="</script><b>x", technique="<i>t")
    settings = [recorded("prune", params={"technique.knob": knob}) for knob in ("<s>", "1")]
    html = write([nasty, recorded("baseline"), *settings], tmp_path, chosen="filter=<u>")[0].read_text()
    assert "technique.knob<wbr>=&lt;s&gt;" in html
    for tag in ("<b>x", "<i>t", "<u>", "<s>"):
        assert tag not in html
    assert html.count("</script>") == html.count("<script")


@pytest.mark.slow
def test_names_in_other_scripts_have_glyphs(tmp_path: Path) -> None:
    def named(model: str, dataset: str) -> list[RecordedCell]:
        cells = [recorded(technique, model=model) for technique in ("baseline", "cluster", "prune")]
        return [
            replace(cell, dataset=dataset, digest=dataset, name=f"{model}-{dataset}-{cell.technique}") for cell in cells
        ]

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph")
        page, *figures = write([*named("花$x$", "फूल"), *named("b", "फूल"), *named("c", "a b"), *named("c", "a_b")],
                               tmp_path, chosen="")  # fmt: skip
    assert len({path.name for path in figures}) == 3 * len(FIGURES)
    assert "花$x$-फूल-cluster" in page.read_text()


def test_a_figure_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Figure:
        raise ZeroDivisionError

    first, *others = KINDS
    monkeypatch.setattr("pipelines.report.page.KINDS", (replace(first, draw=fails), *others))
    _, *figures = write(CELLS, tmp_path, chosen="")
    assert len(figures) == 2 * len(FIGURES) and all(path.read_bytes().startswith(b"\x89PNG") for path in figures)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cells",
    [
        [recorded("baseline")],
        [recorded("cluster", feasible=False)],
        [recorded(f"cluster_{n}", accuracy=0.5 + n / 1000) for n in range(200)],
        [recorded("baseline", train_s=None), recorded("cluster", train_s=None)],
    ],
    ids=["a baseline alone", "nothing feasible", "two hundred cells", "unknown training times"],
)
def test_unusual_selections(cells: list, tmp_path: Path) -> None:
    page, *figures = write(cells, tmp_path, chosen="")
    assert len(figures) == len(FIGURES)
    assert "nan" not in re.sub(r"data:image/png;base64,[^\"]+", "", page.read_text()).lower().replace("finan", "")


def test_unknown_training_time_in_words_rows_and_figures() -> None:
    cells = [recorded("baseline", train_s=None, accuracy=0.9), recorded("cluster", model="resnet50", train_s=1e-3)]
    comparison = compared(*cells)
    first, second = rows([comparison])
    assert (first["technique"], first["train_s"], second["train_s"]) == ("baseline", None, 0.001)
    (column,) = [column for column in COLUMNS if column.key == "train_s"]
    assert (column.cell(first), column.cell(second)) == ("unknown", "0.0")
    lead, measured, *_ = reasons(comparison)
    assert "accuracy" in lead and "training" not in lead
    assert measured.endswith(" compressed, and its training time is unknown.")
    look = looks(["vgg16", "resnet50"])
    for figure, expected, absent in (
        (ranking(comparison), "accuracy", "training time"),
        (scatter(comparison, TRAIN, look), "1 of unknown training time", "2 of unknown training time"),
    ):
        words = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert expected in words and absent not in words
    empty = scatter(compared(cells[0]), TRAIN, look)
    assert "The training time of no cell is known." in [text.get_text() for text in empty.texts]


@pytest.mark.slow
def test_pages_of_many_cells_are_light(tmp_path: Path) -> None:
    cells = [
        recorded(
            f"technique_{n % 20}", accuracy=0.2 + n / 4000, model=f"model_{n % 9}", params={"technique.knob": str(n)}
        )
        for n in range(2000)
    ]
    assert write(cells[::10], tmp_path, chosen="")[0].stat().st_size < 1e6
    page, *_ = write(cells, tmp_path, chosen="")
    assert page.stat().st_size < 4e6
    assert (
        len(json.loads(re.findall(r"<script[^>]*json[^>]*>(.*?)</script>", page.read_text(), re.DOTALL)[0])["cells"])
        == 2000
    )
