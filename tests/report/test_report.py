"""The report: one self-contained file, and figures for unusual selections."""

import csv
import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipelines.comparison.exported import text
from pipelines.comparison.groups import Title
from pipelines.comparison.on_device import Device, timed
from pipelines.comparison.ranking import compare
from pipelines.report.bars import ranking
from pipelines.report.page import KINDS
from pipelines.report.rows import COLUMNS, rows
from pipelines.report.style import in_style, looks
from pipelines.report.words import reasons
from pipelines.results.recorded_cell import RecordedCell
from tests.comparison.recorded import compared, recorded
from tests.report.written import write

CELLS = [
    recorded("baseline"),
    recorded("quantize_int8", megabytes=0.25, accuracy=0.79),
    recorded("cluster", megabytes=0.4, accuracy=0.7, p_value=0.001),
    replace(recorded("baseline", model="resnet50"), dataset="digits", digest="digits"),
]
FIGURES = {"ranking", "pareto", "heatmap", "sensitivity"}


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
    assert shown.count("data:image/png;base64,") == len(figures) - 2
    for path in figures:
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 2000
    assert html.count("<img") == len(re.findall(r"<img[^>]+alt=\"[^\"]+\"", html))
    assert "Which of these 3 cells is fit to be operated on cifar10?" in html
    assert "Is the one cell fit to be operated on digits?" in html
    assert "vgg16-cifar10-quantize_int8 has the highest score, " in html
    assert "2 of 3" in html and "cannot be tested" in html


def test_runtimes_of_a_device(tmp_path: Path) -> None:
    def measured(cell: RecordedCell, *, litert: float, openvino: float) -> RecordedCell:
        times = {f"measure/pi/{name}/p50_ms_1t": ms for name, ms in (("litert", litert), ("openvino", openvino))}
        return replace(cell, metrics=cell.metrics | times)

    base = replace(measured(recorded("baseline"), litert=2.0, openvino=1.0), fingerprint="b")
    int8 = recorded("quantize_int8", megabytes=0.25, accuracy=0.79)
    int8 = replace(measured(int8, litert=0.5, openvino=1.5), baseline="b")
    found = timed([base, int8], Device(target="pi"))
    html = write(found.cells, tmp_path, chosen="", on_device=found.notes)[0].read_text()
    assert "Conditions: times on pi, 1 thread" in html
    assert "vgg16 quantize_int8 on litert is the fittest cell within 2 points" in html
    assert "it is 1 point less accurate than vgg16 baseline, and 4.00 times smaller and 2.00 times faster" in html
    assert "Times by `opscore measure` on pi, each cell by its fastest runtime with 1 thread." in html
    others = {row["technique"]: (row["runtime"], row["other_times"]) for row in rows(compare(found.cells))}
    assert others == {
        "baseline": ("openvino", "litert\N{NO-BREAK SPACE}2.00\N{NO-BREAK SPACE}ms"),
        "quantize_int8": ("litert", "openvino\N{NO-BREAK SPACE}1.50\N{NO-BREAK SPACE}ms"),
    }
    assert 'data-key="runtime"' in html
    # Other answers, and a disturbed session, are next to the runtime.
    changed = measured(int8, litert=2.0, openvino=0.5)
    places = {"measure/pi/openvino/agreement": 0.992, "measure/pi/openvino/valid_1t": 0.0}
    changed = replace(changed, metrics=changed.metrics | places)
    by_openvino = timed([base, changed], Device(target="pi")).cells
    doubt = "gives LiteRT&#39;s class for 99.2% of images; the time is INVALID: the session was disturbed or too short"
    html = write(by_openvino, tmp_path, chosen="")[0].read_text()
    assert f"on openvino; {doubt}" in html and f"<small>{doubt}; litert" in html
    (row,) = [
        one for one in csv.DictReader(text(compare(by_openvino)).splitlines()) if one["technique"] == "quantize_int8"
    ]
    assert (row["valid"], row["agreement"]) == ("False", "0.992")
    assert 'data-key="runtime"' not in write([base, int8], tmp_path, chosen="")[0].read_text()


@pytest.mark.slow
def test_long_titles_fit_the_names_of_files(tmp_path: Path) -> None:
    profiles = [{f"score.max_{name}_of_all": "0.001" for name in "abcdefghijkl"} | {"score.a": n} for n in ("1", "2")]
    cells = [recorded("baseline", dataset="花" * 60, params=params) for params in ({}, *profiles)]
    _, *figures = write(cells, tmp_path, chosen="")
    assert len({path.name for path in figures}) == 3 * len(FIGURES) and all(path.is_file() for path in figures)


def test_names_that_differ_in_case_alone_are_two_choices(tmp_path: Path) -> None:
    cells = [recorded("baseline", model=model) for model in ("net", "Net")]
    html = write(cells, tmp_path, chosen="")[0].read_text()
    assert [html.count(f'<input type="checkbox" value="{name}">') for name in ("net", "Net")] == [1, 1]


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


def test_words_of_figures_are_inside_and_axes_are_long() -> None:
    """Also with a long title, long names and cells that are nearly equal."""
    cells = [
        recorded(technique, accuracy=accuracy, test_ms=1 + accuracy / 100, model="efficientnet_v2_b0_of_mine")
        for technique, accuracy in (("baseline", 0.9712), ("prune_filters_quantize_int8", 0.9715), ("qat", 0.9733))
    ]
    title = Title(dataset="cifar10", conditions="2,000 test images, on AMD EPYC (AVX512-VNNI), 2 cores")
    comparison = replace(compared(*cells), title=title)
    with in_style():
        for kind in KINDS:
            figure = kind.draw(comparison, looks(["efficientnet_v2_b0_of_mine"]))
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            axes = figure.axes
            words = [*figure.texts, *figure.legends, *(text for one in axes for text in (one.title, *one.texts))]
            ticks = [axis for one in axes for axis in (one.xaxis, one.yaxis)]
            boxes = [one.get_tightbbox(canvas.get_renderer()) for one in (*words, *ticks)]
            for box in filter(None, boxes):
                assert box.x0 >= 0 and box.x1 <= figure.bbox.width, (kind.name, box)
            if kind.name == "pareto":
                (low, high), (fast, slow) = axes[0].get_ylim(), axes[0].get_xlim()
                assert high - low >= 0.02 and slow / fast >= 1.2
            if kind.name == "heatmap":
                assert float(np.ptp(axes[0].images[0].get_clim())) >= 3


def test_missed_goals_are_named() -> None:
    params = {"score.max_test_ms": "0.5", "score.max_accuracy_drop": "0.005"}
    comparison = compared(recorded("cluster", accuracy=0.79, feasible=False, params=params))
    (row,) = rows([comparison])
    (column,) = [column for column in COLUMNS if column.key == "feasible"]
    assert (column.cell(row), column.below(row)) == ("no", "misses max_test_ms, max_accuracy_drop")


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
    assert (column.cell(first), column.cell(second)) == ("unknown", "0.00100 s")
    lead, measured, *_ = reasons(comparison)
    assert "accuracy" in lead and "training" not in lead
    assert measured.endswith(" compressed, and its training time is unknown.")
    words = [text.get_text() for legend in ranking(comparison).legends for text in legend.get_texts()]
    assert "accuracy" in words and "training time" not in words


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
