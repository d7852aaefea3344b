"""The files around the code say the same thing."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def test_conda_yaml_repeats_the_dependencies_of_training() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    assert environment["dependencies"][0] == "python=3.11"
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == [*project["dependencies"], *project["optional-dependencies"]["train"]]


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
