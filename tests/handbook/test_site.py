"""The website: what the hooks add to docs/, and a build of it."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the website needs the extra `docs`")

from handbook.site import ADDED, moved, navigation
from pipelines.cells.compose import CONF
from pipelines.commands.cli import COMMANDS
from tests.places import ROOT

SOURCES = ("mkdocs.yml", "handbook", "docs", "conf", *sorted(set(ADDED.values()) - {"docs/index.md"}))
# Attributes whose address a browser loads without a click.
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


def build(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("mkdocs")), "build", "--site-dir", str(out)]
    # A copy of the documentation has no package `pipelines`.
    own = {} if folder == ROOT else {"PYTHONPATH": str(ROOT)}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    return out


class Loaded(HTMLParser):
    """Addresses that a page loads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if value and LOADED.get(tag) == name]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](docs/grid.md) [b](docs/index.md)", "[a](grid.md) [b](contents.md)"),
        ("[a](../README.md) [b](reference/score.md)", "[a](README.md) [b](reference/score.md)"),
        ("[a](CITATION.cff), in docs/", "[a](CITATION.cff), in docs/"),
    ],
)
def test_links_of_moved_files(text: str, expected: str) -> None:
    assert moved(text) == expected


def test_navigation_has_the_order_of_the_index() -> None:
    index = (
        "# Documentation\n\n## What to do\n\n1. [A grid](grid.md): many\n\n"
        "## Reference\n\n- [Terms](reference/terms.md)\n- [Techniques](reference/techniques.md): all\n\n"
        "## For maintainers\n\n- [Design](maintainers/design.md)\n- Notes: [training](lab-notes/training.md)\n"
    )
    home, to_do, reference, maintainers, notes = navigation(index, ["reference/techniques/qat.md"])
    assert home == {"Home": [{"Start": "README.md"}, {"All pages": "contents.md"}]}
    assert to_do == {"What to do": [{"A grid": "grid.md"}]}
    assert [*reference["Reference"]] == [
        {"Terms": "reference/terms.md"},
        {"Commands": "reference/commands.md"},
        {"Techniques": "reference/techniques.md"},
        {"Each technique": ["reference/techniques/qat.md"]},
    ]
    assert maintainers["For maintainers"][0] == {"Design": "maintainers/design.md"}
    assert notes == {"Lab notes": [{"Training": "lab-notes/training.md"}]}


@pytest.mark.slow
def test_every_page_is_built(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    techniques = {Path(f"reference/techniques/{path.stem}.html") for path in (CONF / "technique").glob("*.yaml")}
    added = {Path("contents.html"), Path("reference/commands.html"), Path("CONTRIBUTING.html")}
    assert [path for path in pages | techniques | added if not (site / path).is_file()] == []
    assert "recommends the" in (site / "index.html").read_text()
    assert 'href="techniques/qat.html"' in (site / "reference/techniques.html").read_text()


@pytest.mark.slow
def test_search_finds_techniques_and_commands(site: Path) -> None:
    entries = json.loads((site / "search/search_index.json").read_text())["docs"]
    found = {entry["location"]: entry["text"] for entry in entries}
    assert "proven loss of accuracy" in found["reference/techniques/quantize_mixed.html"]
    assert {f"reference/commands.html#opscore-{name}" for name in COMMANDS} <= found.keys()


@pytest.mark.slow
def test_no_page_loads_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 70
    assert {address for page in pages for address in Loaded(page).found if re.match(r"(\w+:)?//", address)} == set()
    sheets = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", sheets) == []


@pytest.mark.slow
def test_broken_links_fail_the_build(tmp_path: Path) -> None:
    for name in SOURCES:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    page = tmp_path / "docs/deploy.md"
    page.write_text(
        f"{page.read_text()}\n[a](no-such-page.md) [b](grid.md#no-such-heading) [c](/grid.md) [d](../setup.py)\n"
    )
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    for message in (
        "'no-such-page.md', but the target is not found",
        "'grid.md#no-such-heading', but the doc 'grid.md' does not contain an anchor",
        "absolute link '/grid.md'",
        "'../setup.py', but the target is not found",
        "Aborted with 4 warnings",
    ):
        assert message in done.stderr + done.stdout
