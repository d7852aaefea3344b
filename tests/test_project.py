"""The files around the code say the same thing."""

import re
import shlex
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.documented import help_of
from tests.sources import imports

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
MAX_LINES, MAX_COLUMNS = 119, 100


def test_conda_yaml_repeats_the_dependencies_of_training() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    assert environment["dependencies"][0] == "python=3.11"
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == [*project["dependencies"], *project["optional-dependencies"]["train"]]


def test_every_imported_library_is_declared() -> None:
    """Not only brought along by another, which may drop it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    declared = {canonicalize_name(Requirement(one).name) for one in listed}
    there = packages_distributions()
    for path in (*(ROOT / "pipelines").rglob("*.py"), *(ROOT / "handbook").glob("*.py")):
        names = {name.partition(".")[0] for name in imports(path)} - sys.stdlib_module_names
        names -= {"pipelines", "handbook"}
        for name in names:
            bringing = {canonicalize_name(one) for one in there[name]}
            assert bringing & declared, f"{path.relative_to(ROOT)} imports {name}, which pyproject.toml does not name"


def test_every_package_is_installed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    there = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("pipelines/**/*.py")}
    assert there <= set(listed)


def test_every_make_target_explains_itself() -> None:
    makefile = (ROOT / "Makefile").read_text()
    declared = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert declared
    explained = re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE)
    assert sorted(declared[1].split()) == sorted(explained)


def test_entry_points_start_the_command() -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    assert {"main", "sweep"} <= set(project["entry_points"])
    for entry in project["entry_points"].values():
        used = set(re.findall(r"{(\w+)}", entry["command"]))
        assert used == set(entry["parameters"])
        # MLflow puts quotes around each value.
        defaults = {name: shlex.quote(one["default"]) for name, one in entry["parameters"].items()}
        command = shlex.split(entry["command"].format(**defaults))
        program, (name, *words) = command[:3], command[3:]
        assert program == ["python", "-m", "pipelines"]
        if name != "run":
            named = [f"--{word.partition('=')[0]}" for word in words]
            taken = help_of(name, "--help")
            assert [option for option in named if not re.search(rf"{option}\b", taken)] == []


def test_version_has_one_source() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"] == {"version": {"attr": "pipelines.__version__"}}
    assert "version" not in yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_lock_has_the_dependencies_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].items()
    listed = [*project["dependencies"], *(f"{one}; extra == '{name}'" for name, ones in extras for one in ones)]
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    (own,) = [package for package in locked if package["name"] == project["name"]]
    metadata = own["metadata"]["requires-dist"]
    assert {requirement(one) for one in metadata} == {Requirement(one) for one in listed}, "run `uv lock`"


def requirement(entry: dict[str, Any]) -> Requirement:
    extras = ",".join(entry.get("extras", []))
    marker = f"; {entry['marker']}" if "marker" in entry else ""
    return Requirement(f"{entry['name']}[{extras}]{entry.get('specifier', '')}{marker}")


def test_lock_names_the_public_registry_alone() -> None:
    hosts = re.findall(r'https?://([^/"]+)', (ROOT / "uv.lock").read_text())
    assert set(hosts) == {"pypi.org", "files.pythonhosted.org"}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_is_short_and_in_the_index(page: Path) -> None:
    index = ROOT / "docs" / "index.md"
    lines = page.read_text().splitlines()
    assert len(lines) <= MAX_LINES
    # A row of a table cannot be broken, and neither can a generated note.
    assert [line for line in lines if len(line) > MAX_COLUMNS and not re.match(r"\||- \[\d+\] ", line)] == []
    assert page == index or page in {target for target, _ in links(index)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_pages_and_headings(page: Path) -> None:
    for target, anchor in links(page):
        assert target.is_file(), f"{page}: {target}"
        assert not anchor or anchor in anchors(target), f"{page}: {target}#{anchor}"


def links(page: Path) -> list[tuple[Path, str]]:
    """The files in the repository that a page links to, each with an anchor or an empty text."""
    found = re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", prose(page))
    return [((page.parent / path).resolve() if path else page, anchor) for path, anchor in found]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(page: Path) -> str:
    """A page without its blocks of code, in which `#` begins a comment."""
    parts = re.split(r"^```.*$", page.read_text(), flags=re.MULTILINE)[::2]
    lines = "\n".join(parts).splitlines()
    paragraphs = [list(of_one) for filled, of_one in groupby(lines, key=lambda line: bool(line.strip())) if filled]
    return "\n\n".join("\n".join(one) for one in paragraphs if not one[0].startswith("    "))
