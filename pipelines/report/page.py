"""Comparisons as one self-contained HTML page, and its figures as PNG files."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from pipelines import __version__
from pipelines.comparison import article
from pipelines.comparison.notes import leader, notes
from pipelines.comparison.ranking import Comparison
from pipelines.comparison.shortlist import Shortlist
from pipelines.report.answer import first_screen
from pipelines.report.bars import ranking, sensitivity
from pipelines.report.heatmap import heatmap
from pipelines.report.rows import COLUMNS, Row, rows
from pipelines.report.scatter import MAX_LABELLED, scatter
from pipelines.report.style import GREY, VERMILION, Look, in_style, looks, png, without_data
from pipelines.report.words import profile, reasons
from pipelines.system import fonts
from pipelines.system.words import number_of

log = logging.getLogger("opscore")

PAGE = "report.html"
HERE = Path(__file__).parent
NOT_IN_A_FILE_NAME = re.compile(r"[^\w.-]")
# Of a figure's file name; file systems allow 255 with the rest of it.
MAX_STEM_BYTES = 150


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A figure that every dataset has.

    caption: its explanation for readers who do not know opscore. without_script: the page's own plot shows the same, so
    that the page has the figure for browsers without JavaScript alone.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Comparison, Mapping[str, Look]], Figure]
    without_script: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn figure."""

    kind: Kind
    alt: str
    png: bytes

    @property
    def embedded(self) -> str:
        """The picture as a data URL."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


KINDS = (
    Kind(
        name="ranking",
        title="Ranking, and the parts of the score",
        caption="A higher accuracy, a smaller file and shorter times all add to the score. Each bar holds these four "
        "parts, negative ones to the left of 0. The diamond is their sum, the score, and a line through it is the 95% "
        "interval over seeds. Only differences between cells count, as the zero of a part depends on its unit.",
        draw=lambda comparison, _: ranking(comparison),
    ),
    Kind(
        name="heatmap",
        title="Model by technique",
        caption="Each field has the best score of a model with a technique, in dB. A darker field is better, and the "
        "best one is framed. A hatched field has no cell, or none that learnt something within its budgets. Scores far "
        "below the upper half share the palest colour.",
        draw=lambda comparison, _: heatmap(comparison),
    ),
    Kind(
        name="sensitivity",
        title="What other weights would change",
        caption="The upper part shows under which share of all weights of the four criteria, drawn uniformly, a cell "
        "ranks first. Near 100%, it leads whatever the weights are. The lower part shows how far one exponent alone "
        "must move until another cell leads, and which one. The longer the arrow, the less the exponent matters. An "
        "exponent of 0 has none.",
        draw=lambda comparison, _: sensitivity(comparison),
    ),
    Kind(
        name="pareto",
        title="Accuracy, test time and size",
        caption="Up and to the left is better. The smaller the point, the smaller the compressed file. Filled points "
        "are on the Pareto front: no other cell is at least as good in accuracy, test time and compressed size and "
        f"better in one. The best {MAX_LABELLED} of them have their name, or their rank by score, where there is room.",
        draw=scatter,
        without_script=True,
    ),
)
# The quantities of the interactive plot: key of a row, label, factor to the label's unit.
ACROSS = (
    ("test_ms", "test time of one image in ms", 1.0),
    ("compressed_bytes", "compressed size in kB", 1e-3),
    ("train_s", "training time in s", 1.0),
)


def write(
    compared: Sequence[tuple[Comparison, Shortlist | None]],
    folder: Path,
    *,
    chosen: str,
    options: str = "",
    on_device: Sequence[str] = (),
    cautions: Sequence[str] = (),
) -> list[Path]:
    """Write the report into `folder` and return the path of the page, then those of the figures.

    compared: of `shortlisted`. chosen: how the cells were chosen, in words of the command. options: of a
    command that shall decide among the same cells by the same times, but for the dataset. on_device: the notes of
    `on_device.timed`. cautions: what to know before all else, such as which cells are missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    of_models = looks(entry.model for comparison, _ in compared for entry in comparison.entries)
    pictures = {str(comparison.title): drawn(comparison, of_models) for comparison, _ in compared}
    paths = [folder / PAGE]
    text = page(compared, pictures, of_models, chosen=chosen, options=options, on_device=on_device, cautions=cautions)
    paths[0].write_text(text, encoding="utf-8")
    for title, of_one in pictures.items():
        stem = _stem(title)
        # `a b` and `a_b` are two datasets.
        alike = [other for other in pictures if _stem(other) == stem]
        stem += f"-{alike.index(title) + 1}" if alike[0] != title else ""
        for picture in of_one:
            paths.append(folder / f"{stem}-{picture.kind.name}.png")
            paths[-1].write_bytes(picture.png)
    return paths


def _stem(title: str) -> str:
    """The title as a part of a file's name; of a long one its beginning and a hash."""
    name = NOT_IN_A_FILE_NAME.sub("_", title)
    if len(name.encode()) <= MAX_STEM_BYTES:
        return name
    beginning = name.encode()[:MAX_STEM_BYTES].decode(errors="ignore")
    return f"{beginning}-{hashlib.blake2b(title.encode(), digest_size=4).hexdigest()}"


def drawn(comparison: Comparison, of: Mapping[str, Look]) -> list[Picture]:
    """All figures of one comparison. of: the look of each model."""
    names = {name for entry in comparison.entries for name in (entry.label, entry.dataset, entry.model)}
    families, missing = fonts.find_families(names)
    with in_style(families):
        return [
            Picture(
                kind=kind,
                alt=f"{kind.title}: {comparison.title}, {number_of(len(comparison.entries), 'cell')}. "
                f"{leader(comparison)} The table holds all values.",
                png=_png(kind, comparison, of, missing),
            )
            for kind in KINDS
        ]


def _png(kind: Kind, comparison: Comparison, of: Mapping[str, Look], missing: frozenset[str]) -> bytes:
    """A figure as a PNG file. A figure that fails is replaced by a note, and the other figures are still drawn."""
    try:
        figure = kind.draw(comparison, of)
        if missing:
            fonts.replace_missing(figure, missing)
        return png(figure)
    except Exception as error:  # noqa: BLE001 (whatever Matplotlib raises)
        log.warning("the figure %r of %s could not be drawn: %s", kind.title, comparison.title, error)
        return png(without_data(kind.title, "It could not be drawn."))


def page(
    compared: Sequence[tuple[Comparison, Shortlist | None]],
    pictures: Mapping[str, Sequence[Picture]],
    of_models: Mapping[str, Look],
    *,
    chosen: str,
    options: str = "",
    on_device: Sequence[str] = (),
    cautions: Sequence[str] = (),
) -> str:
    """The page as HTML. pictures: by the title of their comparison. The others: as of `write`."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # A long setting breaks before its value: a number that is broken across lines is misread.
    environment.filters["breakable"] = lambda text: Markup("<wbr>=").join(text.split("="))
    # NaN is no JSON: the rows hold None in its place.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    comparisons = [comparison for comparison, _ in compared]
    all_rows = rows(comparisons)
    runs = [run for comparison in comparisons for entry in comparison.entries for run in entry.runs]
    return environment.get_template("page.html.jinja").render(
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        focus=VERMILION,
        script=Markup((HERE / "page.js").read_text(encoding="utf-8")),
        data=_data(comparisons, all_rows, of_models),
        sections=[_section(*one, pictures[str(one[0].title)], options) for one in compared],
        columns=_columns(all_rows),
        rows=all_rows,
        claims=" ".join(article.claims(one.entries for one in comparisons)),
        rule=article.RULE,
        criteria=article.HEADINGS,
        chosen=chosen,
        on_device=on_device,
        cautions=cautions,
        version=__version__,
        runs=len(runs),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        days=sorted({datetime.fromtimestamp(run.started / 1e3, UTC).date().isoformat() for run in runs}),
    )


def _section(
    comparison: Comparison, listed: Shortlist | None, pictures: Sequence[Picture], options: str
) -> dict[str, object]:
    """The values of the template for one dataset."""
    answer, *more = notes(comparison)
    return {
        "dataset": str(comparison.title),
        "first": first_screen(comparison, listed, options),
        "notes": [answer, *reasons(comparison), *more],
        "dimensions": _dimensions(comparison),
        "hardware": comparison.hardware,
        "profile": profile(comparison),
        "images": [
            f"{images:,} test images" if images else "an unrecorded number of test images"
            for images in sorted({run.test_images for entry in comparison.entries for run in entry.runs})
        ],
        "pictures": pictures,
    }


def _dimensions(comparison: Comparison) -> list[dict[str, object]]:
    """The article's table: the dimensions in which cells beat their baseline, by model."""
    return [
        {
            "model": entry.model,
            "technique": entry.optimized_with,
            "variation": entry.settings,
            "marks": [(sign, entry.marks.get(name, "unknown")) for name, sign in article.marks(entry).items()],
            "improved": entry.improved,
        }
        for entry in article.optimized(comparison)
    ]


def _columns(all_rows: Sequence[Row]) -> list[object]:
    """The columns without those that are the same for all cells."""
    constant = {"dataset": len({row["dataset"] for row in all_rows}) == 1}
    constant["runtime"] = not any(row["runtime"] for row in all_rows)
    constant |= {key: all(row[key] for row in all_rows) for key in ("learnt", "feasible")}
    return [column for column in COLUMNS if not constant.get(column.key)]


def _data(
    comparisons: Sequence[Comparison], all_rows: Sequence[Row], of_models: Mapping[str, Look]
) -> dict[str, object]:
    """The data of the page's script."""
    return {
        "grey": GREY,
        "looks": {model: asdict(look) for model, look in of_models.items()},
        "across": [{"key": key, "label": label, "factor": factor} for key, label, factor in ACROSS],
        "datasets": [str(comparison.title) for comparison in comparisons],
        "cells": all_rows,
    }
