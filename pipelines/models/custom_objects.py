"""A module of the user's own layers and functions, `model.custom_objects`: its name, its place, what it would do."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

from pipelines.system import interpreter
from pipelines.system.words import listed

# Methods by which a module would train when it is imported, and write over the file that is read.
_EFFECTS = frozenset({"export", "fit", "save", "save_weights"})
SAVE_MODEL = "save_model"


def check_name(given: str) -> None:
    """Raise ValueError where a text is no module's name, such as the path of a file."""
    if given.endswith(".py") or not all(part.isidentifier() for part in given.split(".")):
        raise ValueError(f"model.custom_objects must be the name of a module, got {given}: {_as_module(given)}")


def find(module: str) -> ModuleSpec:
    """Where a module is, in the working folder too. Raises ValueError where it cannot be imported."""
    interpreter.search_working_folder()
    try:
        spec = importlib.util.find_spec(module)
    except (ModuleNotFoundError, ValueError):
        spec = None
    # A folder without __init__.py has no loader.
    if spec is None or spec.loader is None:
        raise ValueError(
            f"model.custom_objects must be a module that can be imported, got {module}: call opscore in the folder of "
            "the module, or set PYTHONPATH to it"
        )
    return spec


def _as_module(given: str) -> str:
    """What to set in the place of a file, or of another text that is no module's name."""
    path = Path(given)
    if "/" not in given:
        parts: tuple[str, ...] = tuple(given.removesuffix(".py").split("."))
    else:
        parts = path.with_suffix("").parts if path.suffix in ("", ".py") else (path.stem,)
    if all(map(str.isidentifier, parts)):
        return f"set model.custom_objects={'.'.join(parts)}"
    if parts[-1].isidentifier():
        return f"set model.custom_objects={parts[-1]}, and PYTHONPATH to the folder of {parts[-1]}.py"
    return "give the file a name of letters, digits and underscores, such as my_layers.py, and set it without .py"


def check_importable(module: str) -> None:
    """Raise ValueError where a module is not there, or would train or write a model when it is imported."""
    spec = find(module)
    if not spec.origin or not spec.origin.endswith(".py"):
        return
    try:
        tree = ast.parse(Path(spec.origin).read_bytes())
    except SyntaxError as error:
        raise ValueError(
            f"model.custom_objects must be a module that can be imported, got {module} ({spec.origin}, line "
            f"{error.lineno}: {error.msg}): correct it"
        ) from error
    if found := sorted(_effects(tree)):
        raise ValueError(
            f"model.custom_objects must be a module of layers, got {module}, which calls {listed(found)} when it "
            'is imported: put these lines below `if __name__ == "__main__":`, or the layers into a module of their own'
        )


def _effects(tree: ast.Module) -> set[str]:
    """The calls by which a module would train or write a model when it is imported, in functions that it calls too."""
    imports = [one for one in ast.walk(tree) if isinstance(one, ast.Import | ast.ImportFrom)]
    imported = {(name.asname or name.name).partition(".")[0] for one in imports for name in one.names}
    functions = {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef)}
    found: set[str] = set()
    statements: list[ast.stmt] = list(tree.body)
    while statements:
        for node in _run_at_import(statements.pop()):
            if not isinstance(node, ast.Call):
                continue
            text = ast.unparse(node.func)
            first, last = re.split(r"\W", text, maxsplit=1)[0], text.rpartition(".")[2]
            # `np.save` and `LabelEncoder().fit` are of no model.
            if last == SAVE_MODEL or ("." in text and last in _EFFECTS and first not in imported):
                found.add(last)
            elif text in functions:
                statements += functions.pop(text).body
    return found


def _run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a statement that run when its module is imported."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return
    if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
        for other in node.orelse:
            yield from _run_at_import(other)
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _run_at_import(child)
