"""The figures of a cell: names of all scripts, and what fails."""

import logging
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipelines.execution import figures
from pipelines.system import fonts
from tests.results.test_summary import COMPARISON, RESULT

SHIPPED = ["$\\frac{$", "a|b", "<b>", " blanks ", "a_b^c", "100%, or", "Blüten", "שלום", "زهور وردة"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The fonts of the system, none at first."""
    paths: list[str] = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)
    fonts._find_families.cache_clear()
    yield paths
    fonts._find_families.cache_clear()


def font_of(characters: str, path: Path) -> str:
    """A font file with a square for each of the characters."""
    pen = TTGlyphPen(None)
    for at, corner in enumerate([(100, 0), (100, 700), (800, 700), (800, 0)]):
        (pen.lineTo if at else pen.moveTo)(corner)
    pen.closePath()
    names = [".notdef", *(f"uni{ord(one):04X}" for one in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(one): f"uni{ord(one):04X}" for one in characters})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def drawn(names: list[str], path: Path) -> None:
    counts = np.eye(len(names), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.save(lambda: figures.confusion_matrix(counts, names), path)


def test_default_font_draws_names_unchanged(installed: list[str], tmp_path: Path) -> None:
    assert not installed and figures.class_labels(SHIPPED) == (SHIPPED, ())
    drawn(SHIPPED, tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 10_000


def test_undrawable_names_become_numbers(installed: list[str], tmp_path: Path) -> None:
    names = ["花", "cat", "फूल", "🍕", "x" * 200]
    assert not installed
    assert figures.class_labels(names)[0] == ["class 0", "cat", "class 2", "class 3", "x" * 23 + "…"]
    drawn(names, tmp_path / "one.png")
    assert (tmp_path / "one.png").exists()


def test_installed_fonts_draw_what_they_have(installed: list[str], tmp_path: Path) -> None:
    installed += [font_of("花卉", tmp_path / "Chinese.ttf"), font_of("花", tmp_path / "Some.ttf")]
    installed.append(str(tmp_path / "broken.ttf"))
    Path(installed[-1]).write_bytes(b"no font")
    names = ["花卉", "cat", "🍕", "花" * 30]
    labels, families = figures.class_labels(names)
    assert labels == ["花卉", "cat", "class 2", "花" * 11 + "…"] and families == ("Chinese",)
    drawn(names, tmp_path / "one.png")
    assert (tmp_path / "one.png").exists()


def test_a_figure_that_fails_leaves_a_warning_and_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> Figure:
        raise ValueError("no\n figure")

    (tmp_path / "one.png").write_bytes(b"half")
    with caplog.at_level(logging.WARNING, "opscore"):
        figures.save(fails, tmp_path / "one.png")
        shutil.rmtree(tmp_path)
        figures.save(Figure, tmp_path / "two.png")
    first, second = (record.getMessage() for record in caplog.records)
    assert first == f"the figure {tmp_path / 'one.png'} could not be drawn (no figure): all else is kept"
    assert "two.png could not be drawn" in second


def test_missing_characters_leave_no_boxes_in_any_figure() -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.set_title("花 of roses")
    axes.set_yticks([0, 1], ["花", "b"])
    fonts.replace_missing(figure, frozenset("花"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    assert axes.get_title() == "? of roses"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["?", "b"]


def test_bars_are_shares_of_the_baseline() -> None:
    figure = figures.against_baseline(RESULT.measurement, COMPARISON)
    (axes,) = figure.axes
    size = RESULT.measurement.compressed_bytes / COMPARISON.baseline_compressed_bytes
    widths = [bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]
    assert widths == [COMPARISON.latency_ratio, size]
    assert axes.get_title() == f"accuracy {RESULT.measurement.accuracy:.1%}, its baseline's 50.0%"
