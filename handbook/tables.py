"""Writes the tables of README and docs about the choices in `conf/` from the code."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Container, Iterator
from pathlib import Path

from omegaconf import OmegaConf

from handbook import ROOT
from pipelines.cells.compatibility import Compatibility, choices
from pipelines.cells.compose import CONF, GROUPS
from pipelines.results.tables import fill_marks, markdown
from pipelines.techniques.base import Chain, Technique

_COMPATIBILITY = """# Which technique goes with which model

`make docs` writes this page from the techniques' own checks and the values of `conf/`.
`opscore run --info compatibility` shows it in the terminal. A cell of a pair that is refused ends
before anything is trained, and a sweep skips it.
"""


def main() -> None:
    """Rewrite the pages of the checkout."""
    for path, text in written(ROOT, CONF):
        path.write_text(text)


def written(root: Path, conf: Path) -> Iterator[tuple[Path, str]]:
    """The path and the new text of each page below `root` that has parts generated from the folder `conf`."""
    yield root / "docs/reference/compatibility.md", compatibility_page(Compatibility.of(conf))
    for page, name, table in (
        ("docs/reference/configuration.md", "choices", choices_table(conf)),
        ("docs/reference/techniques.md", "techniques", technique_table(conf)),
    ):
        yield root / page, replaced((root / page).read_text(), name, table)


def replaced(page: str, name: str, table: str) -> str:
    """The page with a table at its mark. Raises ValueError where it lacks the mark."""
    text, count = fill_marks(page, f"make docs: {name}", lambda _: table)
    if count != 1:
        raise ValueError(f"the page must hold <!-- make docs: {name} --> and <!-- end --> once, got it {count} times")
    return text


def compatibility_page(pairs: Compatibility) -> str:
    """The whole page of docs/reference/compatibility.md."""
    notes = pairs.notes
    heading = ("technique", *(f"`{model}`" for model in pairs.models))
    table = markdown([heading, *((f"`{technique}`", *rest) for technique, *rest in pairs.rows)])
    reasons = [f"- [{number}] {reason}" for reason, number in notes.items()]
    return "\n".join([_COMPATIBILITY, table, "", *reasons, ""])


def choices_table(conf: Path) -> str:
    """Every choice of each group of the configuration."""
    rows = [
        (f"`{group}`", " ".join(f"`{path.stem}`" for path in sorted((conf / group).glob("*.yaml"))))
        for group in (*GROUPS, "experiment")
    ]
    return markdown([("group", "choices"), *rows]) + "\n"


def technique_table(conf: Path) -> str:
    """What each technique does, its settings, and the check of its exported model; chains come last."""
    techniques: dict[str, Technique] = choices(conf, "technique")
    ordered = sorted(techniques.items(), key=lambda item: (isinstance(item[1], Chain), item[0]))
    given = {name: OmegaConf.load(conf / "technique" / f"{name}.yaml") for name in techniques}
    rows = [(f"`{name}`", one.summary, _settings(one, given[name]), one.EFFECT or "-") for name, one in ordered]
    return markdown([("technique", "what it does", "settings", "checked on the exported model"), *rows]) + "\n"


def _settings(technique: Technique, given: Container[object]) -> str:
    """The fields of a technique that its yaml gives, with their values, those of its own class first."""
    if isinstance(technique, Chain):
        return "of " + ", ".join(f"`steps.{step}`" for step in technique.steps)
    own = vars(type(technique)).get("__annotations__", {})
    names = [field.name for field in dataclasses.fields(technique) if field.name in given]
    names.sort(key=lambda name: name not in own)
    return " ".join(f"`{name}{_value(getattr(technique, name))}`" for name in names)


def _value(value: object) -> str:
    """The value as on the command line; empty for a part with fields of its own, such as a teacher."""
    if dataclasses.is_dataclass(value):
        return ""
    return f"={value if isinstance(value, str) else json.dumps(value)}"
