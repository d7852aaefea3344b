"""A hash of the source code that determines a cell, so that an edited technique does not get the stored result."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

# What determines an exported model. Images count by their content, not by the code that reads them.
DETERMINING = (
    "pipelines.techniques",
    "pipelines.training",
    "pipelines.models",
    "pipelines.quantization",
    "pipelines.litert.exported_model",
    "pipelines.litert.flatbuffer",
    "pipelines.litert.labels",
    "pipelines.results.statistics",
)
# The last step to an exported model, in a package above this one.
EXPORT = "pipelines.execution.export"
# Python's own modules.
LIBRARY = sysconfig.get_path("stdlib")


def code_digest(classes: Iterable[type], modules: Iterable[str] = ()) -> str:
    """SHA-256 in hexadecimal over the modules of the classes, others by name, the export, and their imports that count:
    those from determining packages, and the user's own.

    Comments, docstrings and layout do not count. Of a module without a source file, the name counts.
    """
    starts = sorted({one.__module__ for one in classes} | {*modules, EXPORT})
    codes: dict[str, str] = {}
    while starts:
        name = starts.pop()
        if name not in codes:
            found = _source(name)
            codes[name] = found[0] if found else ""
            starts.extend(found[1] if found else ())
    return hashlib.sha256(json.dumps(codes, sort_keys=True).encode()).hexdigest()


@cache
def _source(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The hash of a module's code, and those of its imports that count; None without a source file."""
    spec = _spec(name)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    tree = ast.parse(Path(spec.origin).read_bytes())
    package = name if spec.submodule_search_locations else name.rpartition(".")[0]
    imported = {one for one in _imports(tree, package) if _counts(one) and _spec(one) is not None}
    shape = json.dumps(_shape(tree), default=repr)
    return hashlib.sha256(shape.encode()).hexdigest(), tuple(sorted(imported))


def _spec(name: str) -> ModuleSpec | None:
    """The spec of a module; None for what is no module. Only the packages above the module are imported."""
    parent = name.rpartition(".")[0]
    if parent:
        above = _spec(parent)
        if above is None or above.submodule_search_locations is None:
            return None
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # such as `__main__`
        return None


def _counts(name: str) -> bool:
    top = name.partition(".")[0]
    return name.startswith(DETERMINING) if top == "pipelines" else _is_own(top)


@cache
def _is_own(top: str) -> bool:
    """Whether a top-level module is the user's: neither Python's nor installed. It is not imported."""
    spec = _spec(top)
    places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
    paths = [Path(place) for place in places if place and Path(place).is_absolute()]
    return bool(paths) and not any(
        path.is_relative_to(LIBRARY) or {"site-packages", "dist-packages"} & set(path.parts) for path in paths
    )


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """The dotted names of all imports in a tree: the modules, and the names taken from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _shape(node: Any) -> Any:
    """A syntax tree as lists, without docstrings, and without empty fields, which differ between Python versions."""
    if isinstance(node, list):
        return [_shape(one) for one in node]
    if not isinstance(node, ast.AST):
        return node
    parts = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        parts["body"] = node.body[1:]
    return [type(node).__name__, *([name, _shape(value)] for name, value in parts.items())]
