"""Imports point downward only, and heavy libraries stay where they belong (docs/design.md)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "pipelines"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A part may import the parts to its right, and itself.
ALLOWED = {
    "records": set(),
    "checks": set(),
    "names": set(),
    "breakdown": set(),
    "energy": set(),
    "machine": set(),
    "mapped": set(),
    "runtime": {"breakdown", "machine"},
    "score": {"records", "checks"},
    "verdict": {"records"},
    "metrics": {"records"},
    "summary": {"records", "verdict"},
    "fonts": set(),
    "figures": {"records", "measure", "datasets", "fonts"},
    "downloads": set(),
    "datasets": {"breakdown", "checks", "downloads", "machine", "mapped", "names"},
    "models": {"checks", "downloads", "names"},
    "measure": {"checks", "energy", "machine", "mapped"},
    "cache": {"guard", "datasets"},
    "convolutions": {"runtime"},
    "training": {"breakdown", "convolutions", "datasets", "energy", "mapped", "runtime", "checks"},
    "techniques": {"training", "convolutions", "models", "datasets", "measure", "records", "checks"},
    "export": {"techniques", "datasets", "measure"},
    "cell": {"datasets", "models", "techniques", "training", "measure", "score", "runtime", "checks"},
    "serving": {"measure"},
    "job": {
        "cell", "training", "techniques", "export", "measure", "models", "datasets", "score", "verdict", "records",
        "runtime", "breakdown",
    },
    "tracking": {"checks", "breakdown", "cell", "datasets", "records", "metrics", "summary",
        "serving", "runtime", "verdict"},
    "arguments": {"checks", "tracking"},
    "comparison": {"intervals", "records", "verdict", "tracking"},
    "article": {"comparison"},
    "pages": {"comparison", "tracking"},
    "compare": {"guard", "arguments", "article", "comparison", "pages", "runtime", "summary", "tracking"},
    "report": {
        "guard", "arguments", "article", "compare", "comparison", "fonts", "runtime", "summary",
        "tracking", "__version__",
    },
    "intervals": set(),
    "comparability": {"tracking"},
    "gates": {"comparability", "intervals", "tracking"},
    "registry": {"names", "gates", "measure", "records", "tracking"},
    "rollback": {"registry", "tracking"},
    "licences": set(),
    "model_card": {"datasets", "intervals", "licences", "records"},
    "target": {"checks", "comparison", "energy", "machine", "measure", "summary", "tracking"},
    # The command stands above the package that it is named after.
    "measure/__main__": {"guard", "arguments", "compare", "machine", "runtime", "target", "tracking"},
    "promote": {
        "guard", "arguments", "checks", "comparability", "compare", "gates", "registry",
        "rollback", "summary", "tracking",
    },
    "pull": {"guard", "arguments", "model_card", "registry", "tracking"},
    "compatibility": {"composition", "models", "techniques", "summary"},
    "composition": {"cell", "checks", "tracking"},
    "guard": set(),
    "overrides": {"guard"},
    "mistakes": {"checks", "composition", "overrides"},
    "grid": {"overrides"},
    "execution": {"breakdown", "runtime", "cell", "datasets", "records", "figures", "job", "tracking"},
    "grid_preflight": {"cell", "composition", "execution"},
    "folders": set(),
    "sweep": {
        "breakdown", "composition", "folders", "grid", "grid_preflight", "guard",
        "cell", "records", "report", "summary", "tracking", "checks",
        "verdict",
    },
    "sync": {"guard", "composition", "execution", "records", "figures", "tracking"},
    "server": {"guard", "tracking"},
    "server_app": {"runtime"},
    "run": {
        "breakdown", "compatibility", "composition", "sweep", "execution", "cell", "tracking", "metrics", "summary",
        "folders", "grid", "guard", "mistakes", "overrides", "records", "runtime",
    },
    "__init__": {"guard"},
}  # fmt: skip
ONLY_IN = {
    "hydra": {
        "run",
        "sweep",
        "composition",
        "compatibility",
        "grid",
        "grid_preflight",
        "mistakes",
        "overrides",
    },
    "mlflow": {"tracking", "serving", "registry", "server_app"},
    "tensorflow_model_optimization": {"techniques"},
    "ai_edge_litert": {"measure"},
    "psycopg": {"server", "tracking"},
    "zeus": {"energy"},
}


def part(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    own = relative.with_suffix("").as_posix()
    return own if own in ALLOWED else relative.parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    own = part(path)
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "pipelines":
            assert rest[0] in ALLOWED[own] | {own}, f"{own} must not import {name}"
        assert own in ONLY_IN.get(top, {own}), f"{own} must not import {top}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_tensorflow_is_never_loaded_by_importing_a_module(path: Path) -> None:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not {name.split(".")[0] for name in names} & {"tensorflow", "tf_keras", "mlflow"} or (
                # What MLflow itself loads: a model, and its server's application.
                part(path) in ("serving", "server_app")
            )
