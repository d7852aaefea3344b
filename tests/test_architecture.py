"""Imports point downward only, and heavy libraries stay where they belong (docs/maintainers/design.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sources import imports

PACKAGE = Path(__file__).resolve().parents[1] / "pipelines"
MODULES = sorted(PACKAGE.rglob("*.py"))
HANDBOOK = sorted(PACKAGE.with_name("handbook").glob("*.py"))

# A room may import those that it names, and itself.
ALLOWED = {
    "system": set(),
    "results": {"system"},
    "litert": {"results", "system"},
    "datasets": {"system"},
    "quantization": {"litert", "datasets", "results", "system"},
    "models": {"system"},
    "training": {"datasets", "system"},
    "techniques": {"training", "models", "quantization", "datasets", "litert", "results", "system"},
    "cells": {"techniques", "training", "models", "datasets", "litert", "results", "system"},
    "comparison": {"results", "system"},
    "champion": {"comparison", "results", "system"},
    "report": {"comparison", "results", "system"},
    "tracking": {"cells", "datasets", "litert", "results", "system"},
    "runtimes": {"litert", "results", "system"},
    "device": {"tracking", "comparison", "runtimes", "litert", "results", "system"},
    "execution": {
        "tracking", "report", "comparison", "cells", "techniques", "training", "models", "datasets", "litert",
        "results", "system",
    },
    "commands": {
        "execution", "device", "runtimes", "tracking", "report", "champion", "comparison", "cells", "quantization",
        "datasets", "litert", "results", "system",
    },
    # `python -m pipelines`.
    "entry points": {"commands", "system"},
}  # fmt: skip
ONLY_IN = {
    "hydra": {"commands", "execution", "cells"},
    "mlflow": {"tracking"},
    "tensorflow_model_optimization": {"techniques"},
    "ai_edge_litert": {"litert", "quantization", "runtimes"},
    "openvino": {"runtimes"},
    "psycopg": {"tracking"},
    "zeus": {"system"},
}
# Of a file, as CONTRIBUTING.md has it.
MAX_LINES = 400
# What MLflow itself loads: a model, and its server's application.
LOADED_BY_MLFLOW = {"tracking/serving.py", "tracking/server_app.py"}


def room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return "entry points" if len(relative.parts) == 1 else relative.parts[0]


@pytest.mark.parametrize("path", [*MODULES, *HANDBOOK], ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    own = room(path)
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "pipelines":
            assert rest[0] in ALLOWED[own] | {own, "__version__"}, f"{own} must not import {name}"
        assert top != "handbook", "the product knows nothing of its documentation"
        assert own in ONLY_IN.get(top, {own}), f"{own} must not import {top}"


def test_every_allowed_import_is_there() -> None:
    imported = {(room(path), name) for path in MODULES for name in imports(path)}
    used = {(own, name.split(".")[1]) for own, name in imported if name.startswith("pipelines.")}
    assert {(own, below) for own, allowed in ALLOWED.items() for below in allowed} <= used
    foreign = {(name.split(".")[0], own) for own, name in imported}
    assert {(library, own) for library, allowed in ONLY_IN.items() for own in allowed} <= foreign


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_tensorflow_is_never_loaded_by_importing_a_module(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            heavy = {name.split(".")[0] for name in names} & {"tensorflow", "tf_keras", "mlflow"}
            assert not heavy or path.relative_to(PACKAGE).as_posix() in LOADED_BY_MLFLOW


def test_composing_a_cell_loads_no_litert() -> None:
    """All techniques are imported by `--info compatibility`, the default one by every run."""
    names = [f"pipelines.techniques.{path.stem}" for path in (PACKAGE / "techniques").glob("*.py")]
    code = f"import sys; import {', '.join(names)}; print(*{{'ai_edge_litert', 'tensorflow'}} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert told.stdout == "\n"


def test_rooms_form_no_circle() -> None:
    open_rooms = {name: set(below) for name, below in ALLOWED.items()}
    while open_rooms:
        bottom = {name for name, below in open_rooms.items() if not below & open_rooms.keys()}
        assert bottom, f"a circle among {', '.join(open_rooms)}"
        open_rooms = {name: below for name, below in open_rooms.items() if name not in bottom}


def test_names_of_tests_fit_a_line() -> None:
    names = [
        node.name
        for path in Path(__file__).parent.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(names) > 500
    assert [name for name in names if len(name) > 60] == []
