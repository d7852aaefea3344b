"""Which edits of the code give a cell a new fingerprint."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import importlib, sys
from pipelines.cells.sources import code_digest
print(code_digest([importlib.import_module("mine.technique").Own]))
"""
TECHNIQUE = '''"""A technique."""

from mine.numbers import SHARE
from pipelines.techniques.prune import Prune


class Own(Prune):
    """Prunes."""

    def share(self) -> float:
        """In [0, 1]."""
        return SHARE  # of all weights
'''


def digest(folder: Path, technique: str = TECHNIQUE, numbers: str = "SHARE = 0.5\n") -> str:
    package = folder / "mine"
    package.mkdir(exist_ok=True)
    for name, text in (("__init__", ""), ("technique", technique), ("numbers", numbers)):
        (package / f"{name}.py").write_text(text)
    command = [sys.executable, "-B", "-c", PROGRAM]
    environment = {"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("technique", "numbers", "same"),
    [
        (TECHNIQUE, "SHARE = 0.5\n", True),
        (TECHNIQUE.replace("  # of all weights", ""), "SHARE = 0.5\n", True),
        (TECHNIQUE.replace("Prunes.", "Prunes more."), "# a comment\nSHARE = 0.5\n", True),
        (TECHNIQUE.replace("return SHARE", "return SHARE / 2"), "SHARE = 0.5\n", False),
        (TECHNIQUE, "SHARE = 0.25\n", False),
    ],
    ids=["nothing", "comment", "docstring", "code", "what it imports"],
)
def test_code_counts_and_comments_do_not(tmp_path: Path, technique: str, numbers: str, same: bool) -> None:
    assert (digest(tmp_path, technique, numbers) == digest(tmp_path)) is same


def test_module_next_to_the_package_counts(tmp_path: Path) -> None:
    found = []
    for value in ("0.5", "0.5 # a comment", "0.25"):
        (tmp_path / "beside.py").write_text(f"SHARE = {value}\n")
        found.append(digest(tmp_path, numbers="import json, numpy\nfrom beside import SHARE\n"))
    assert found[0] == found[1] != found[2]


def test_only_own_modules_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.cells import sources

    assert not any(map(sources._is_own, ("json", "sys", "numpy", "tf_keras", "nowhere_at_all")))
    (tmp_path / "my_own_blocks.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert sources._is_own("my_own_blocks")


def test_rooms_that_determine_are_followed() -> None:
    from pipelines.cells import sources
    from pipelines.techniques.cluster import Cluster

    found = sources._source(Cluster.__module__)
    assert found is not None
    assert "pipelines.techniques.fine_tuning" in found[1]
    assert not [name for name in found[1] if name.startswith(("pipelines.results.cell_result", "pipelines.system"))]


# Imported by what determines an exported model, without an effect on it.
HARMLESS = (
    "pipelines.datasets",  # images count by their content
    "pipelines.system",
    "pipelines.litert.kernels",  # reads the finished file, to verify it
    "pipelines.results.files",
    "pipelines.results.folder",
    "pipelines.results.verdict",  # a sentence on the baseline
)


def test_each_import_of_determining_code_counts_or_is_listed() -> None:
    from pipelines.cells import sources

    missing = set()
    for path in sorted((ROOT / "pipelines").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != sources.EXPORT and not name.startswith(sources.DETERMINING):
            continue
        for one in sources._imports(ast.parse(path.read_text()), name.rpartition(".")[0]):
            known = (*sources.DETERMINING, *HARMLESS)
            if (ROOT / one.replace(".", "/")).is_dir():
                continue
            if one.startswith("pipelines.") and sources._spec(one) is not None and not one.startswith(known):
                missing.add(f"{name}: {one}")
    assert not missing
