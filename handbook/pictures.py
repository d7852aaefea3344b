"""Draws the pictures of README and docs: make pictures ARGS="--experiment article --dataset cifar10 --target epyc".

The figures of the study are drawn from the study's rows, the report and the terminal from the recorded cells that the
options choose, as of `opscore compare`. Needs Chromium for the report. All pictures together have at most 300 kB.
"""

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

from handbook import ROOT, article_figures
from handbook.article_page import DATASETS, rows_of
from pipelines.report.style import COLOURS_IN_A_FILE, in_style, png

IMAGES = ROOT / "docs/images"
COLUMNS, LINES, WIDTH_PX, HEIGHT_PX = 80, 34, 1400, 740
MAX_BYTES = 300_000


def main() -> None:
    """Draw everything that there are cells for."""
    options = sys.argv[1:]
    rows = rows_of(ROOT)
    with in_style():
        for dataset in sorted({row.dataset for row in rows} & DATASETS.keys()):
            (IMAGES / f"article-{dataset}.png").write_bytes(png(article_figures.effects(rows, dataset)))
            (IMAGES / f"article-{dataset}-accuracy.png").write_bytes(png(article_figures.accuracies(rows, dataset)))
    if options:
        (IMAGES / "report.png").write_bytes(_report(options))
        (IMAGES / "compare.svg").write_text(_terminal(["opscore", "compare", *options]))
    sizes = {path.name: path.stat().st_size for path in IMAGES.iterdir() if path.suffix in (".png", ".svg")}
    print("\n".join(f"{size / 1e3:6.1f} kB  {name}" for name, size in sorted(sizes.items())))
    if sum(sizes.values()) > MAX_BYTES:
        sys.exit(f"pictures must have at most {MAX_BYTES / 1e3:g} kB together, got {sum(sizes.values()) / 1e3:g} kB")


def _report(options: list[str]) -> bytes:
    """The first screen of the report, as Chromium shows it."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([_program("opscore"), "report", *options, "--out", f"{folder}/report"], check=True, cwd=folder)
        chromium = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--hide-scrollbars",
            f"--window-size={WIDTH_PX},{HEIGHT_PX}",
        ]
        page = (Path(folder) / "report/report.html").as_uri()
        subprocess.run([*chromium, f"--screenshot={folder}/report.png", page], check=True, capture_output=True)
        written = io.BytesIO()
        picture = Image.open(f"{folder}/report.png").convert("RGB")
        picture.quantize(COLOURS_IN_A_FILE, Image.Quantize.FASTOCTREE).save(written, "png", optimize=True)
    return written.getvalue()


def _terminal(words: list[str]) -> str:
    """What a command prints on a terminal of 80 columns, as far as it fits on a screen."""
    done = subprocess.run(
        [_program(words[0]), *words[1:]],
        env={**os.environ, "COLUMNS": str(COLUMNS)},
        capture_output=True,
        text=True,
        check=True,
    )
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"$ {shlex.join(words)}", style="bold"))
    lines = done.stdout.rstrip().splitlines()
    console.print(Text("\n".join([*lines[:LINES], *(["..."] if lines[LINES:] else [])])))
    drawn = console.export_svg(title=" ".join(words[:2]), unique_id="terminal")
    # Fonts of the reader's system alone: a picture loads nothing from another host.
    return re.sub(r",\s*url\([^)]*\) format\([^)]*\)", "", drawn)


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


if __name__ == "__main__":
    main()
