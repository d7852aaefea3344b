"""All commands with their options as one page, which the website has in addition to docs/ (`make site`)."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from textwrap import dedent

import click

from pipelines.commands.cli import COMMANDS, EPILOG, NAME, opscore
from pipelines.results.tables import markdown
from pipelines.system.places import PACKAGE


def command_reference() -> str:
    """The page in markdown, from the help that each command prints."""
    parent = click.Context(opscore, info_name=NAME)
    sections = [f"# Commands\n\n{as_markdown(EPILOG)}"]
    for name, sentence in COMMANDS.items():
        command = opscore.get_command(parent, name)
        assert command is not None
        sections.append(f"## {NAME} {name}")
        if name in ("run", "sweep"):
            sections += [sentence, *_of_hydra(name)]
        else:
            sections += _of_click(command, click.Context(command, info_name=name, parent=parent))
    return "\n\n".join(sections) + "\n"


def as_markdown(text: str) -> str:
    """A help text as markdown: indented lines become code, lines such as `model: vgg16, vgg19` a list."""
    parts = []
    for kind, group in groupby(text.strip("\n").splitlines(), key=_kind):
        lines = "\n".join(group)
        if kind == "code":
            parts.append(f"```text\n{dedent(lines)}\n```")
        elif kind == "choices":
            parts.append(re.sub(r"^(\w+):", r"- `\1`:", _escaped(lines), flags=re.MULTILINE))
        elif kind == "prose":
            parts.append(_escaped(lines))
    return "\n\n".join(parts)


def _kind(line: str) -> str:
    if not line:
        return "blank"
    if line.startswith("  "):
        return "code"
    return "choices" if re.match(r"[a-z]+: \w", line) else "prose"


def _escaped(text: str) -> str:
    """The text with `<` outside of code as an entity, so that `<device>` is no tag."""
    return re.sub(r"`[^`]*`|<", lambda found: "&lt;" if found[0] == "<" else found[0], text)


def _of_hydra(name: str) -> Iterator[str]:
    if name == "sweep":
        yield f"It takes the overrides of [`{NAME} run`](#{NAME}-run), with commas between the values of a grid."
        return
    help_of = [sys.executable, "-m", "pipelines", name, "--help"]
    shown = subprocess.run(help_of, cwd=PACKAGE.parent, capture_output=True, text=True, check=True).stdout
    # The first line describes opscore.
    yield as_markdown(shown.partition("\n\n")[2])


def _of_click(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```"
    yield as_markdown(inspect.cleandoc(command.help or ""))
    records = [record for option in command.get_params(context) if (record := option.get_help_record(context))]
    rows = [(f"`{names}`", _escaped(meaning)) for names, meaning in records]
    yield markdown([("option", "meaning"), *rows])
    if command.epilog:
        yield _escaped(command.epilog)
