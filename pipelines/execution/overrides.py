"""The words of the command line before Hydra sees them: in any order, and with quotes where only text can be meant."""

from __future__ import annotations

import os
import re
import shlex
from argparse import Namespace
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from pipelines.system.checks import nearest
from pipelines.system.guard import MisuseError

# The last part of the names of fields that hold a text which need not look like one: a folder may be called 2024.
TEXT = ("path", "uri", "weights", "experiment", "data_dir", "dir", "name")
_FUNCTIONS = re.compile(
    r"\s*(choice|range|interval|glob|sort|shuffle|tag|extend_list|int|float|str|bool|json_str)\s*\("
)
_NAME = re.compile(r"(\+\+?|~)?[A-Za-z_][\w./@:-]*")


def expand(arguments: list[str]) -> list[str]:
    """Split the one argument after `--overrides` as a shell would; all others stay.

    `mlflow run -P overrides="a=1 b=x,y"` hands over everything as a single argument.
    """
    if "--overrides" not in arguments:
        return arguments
    at = arguments.index("--overrides")
    given = arguments[at + 1] if at + 1 < len(arguments) else ""
    try:
        words = shlex.split(given)
    except ValueError as error:
        raise MisuseError(
            f"overrides must be words as in a shell, got {given!r} ({error}): close the quotes"
        ) from error
    return arguments[:at] + words + arguments[at + 2 :]


def prepared(arguments: list[str]) -> list[str]:
    """The arguments with options first, which Hydra wants, and each override as it can be parsed.

    Raises MisuseError with one sentence, which holds the argument as it works when pasted, for one that cannot.
    """
    given = _options(arguments)
    words: list[str] = given.overrides
    options = list(arguments)
    for word in words:
        options.remove(word)
    # What completes a command line in the shell is no override.
    if given.shell_completion:
        return [*options, *words]
    return [*options, *(parsed(word, multirun=given.multirun) for word in words)]


def _options(arguments: Sequence[str]) -> Namespace:
    """Hydra's options. Raises MisuseError in the place of argparse's usage of many lines."""
    parser = get_args_parser()
    known = [option for action in parser._actions for option in action.option_strings]

    def refuse(message: str) -> NoReturn:
        meant = nearest(message.removeprefix("unrecognized arguments: ").split()[0], known)
        mend = f"did you mean {meant}?" if meant else "`opscore run --help` shows what is taken"
        raise MisuseError(f"{message}: {mend}")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_intermixed_args(list(arguments))


def parsed(word: str, *, multirun: bool = False) -> str:
    """The override as Hydra can parse it. Raises MisuseError where it means nothing, or more than one thing."""
    name, separator, value = word.partition("=")
    if is_text(name) and value.startswith("~"):
        # No shell does it behind `dataset.path=`.
        value = os.path.expanduser(value)  # noqa: PTH111 (leaves a ~ that is no user's home as it is)
        word = f"{name}={value}"
    parser = OverridesParser.create()
    try:
        override = parser.parse_override(word)
    except HydraException as error:
        if not _NAME.fullmatch(name) or not separator:
            raise MisuseError(
                f"arguments must be name=value, got {word!r}: write for example model=resnet50 or training.epochs=3"
            ) from error
        if _may_be_meant_otherwise(value):
            raise MisuseError(
                f"{name} has a value that cannot be read, got {value!r} ({_reason(error)}): if it is meant as text, "
                f"write {pasted(name, value)}"
            ) from error
        return quoted(name, value)
    listed = None if override.is_sweep_override() else override.value()
    if "." not in name and isinstance(listed, list):
        grid = ",".join(map(str, listed))
        raise MisuseError(
            f"{name} must be one choice, got {value}: for a grid write {command_line(['-m', f'{name}={grid}'])}"
        )
    if is_text(name) and _is_mistaken(override):
        return quoted(name, value)
    if override.is_sweep_override() and not multirun:
        raise MisuseError(_without_multirun(name, value))
    return word


def is_text(name: str) -> bool:
    """Whether the field of this name holds a text."""
    return re.split(r"[.+]", name)[-1] in TEXT


def quoted(name: str, value: str) -> str:
    """`name="value"`, whose value Hydra takes for a text, whatever is in it."""
    return f"{name}={QuotedString(value, Quote.double).with_quotes()}"


def pasted(name: str, value: str) -> str:
    """The override with its value as a text, as it can be pasted into bash and zsh."""
    return shlex.quote(quoted(name, value))


def _may_be_meant_otherwise(value: str) -> bool:
    """Whether it may be a list, a dictionary, a quoted text, a function or a grid that was mistyped."""
    return value.lstrip()[:1] in ("[", "{", '"', "'") or "," in value or "${" in value or bool(_FUNCTIONS.match(value))


def _is_mistaken(override: Override) -> bool:
    """Whether Hydra took a field's text for a number, a truth value, a list or a dictionary."""
    if override.is_sweep_override() or override.is_delete():
        return False
    return isinstance(override.value(), int | float | list | dict)


def _reason(error: HydraException) -> str:
    return str(error).splitlines()[0]


def _without_multirun(name: str, value: str) -> str:
    text = f", or as one text {pasted(name, value)}" if is_text(name) else ""
    word = shlex.quote(f"{name}={value}")
    return (
        f"{name} must be one value for one cell, got {value}: for a grid write -m, as in "
        f"`python -m pipelines.run -m {word}`{text}"
    )


def command_line(arguments: Sequence[str]) -> str:
    """The command with these arguments, as it can be pasted into bash and zsh."""
    return shlex.join(["python", "-m", "pipelines.run", *arguments])
