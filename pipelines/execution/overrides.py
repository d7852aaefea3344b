"""Prepares the command line for Hydra: options first, and quotes where a value can only be a text."""

from __future__ import annotations

import glob
import os
import re
import shlex
from argparse import Namespace
from collections.abc import Sequence
from fnmatch import fnmatch
from itertools import pairwise
from typing import NoReturn, cast

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, Quote, QuotedString, ValueType
from hydra.errors import HydraException

from pipelines.cells.compose import GROUPS
from pipelines.system.checks import nearest
from pipelines.system.guard import MisuseError

# Last parts of the names of fields that hold a text, even one that looks like a number: a folder may be called 2024.
TEXT = ("path", "uri", "weights", "experiment", "data_dir", "dir", "name")
_FUNCTIONS = re.compile(
    r"\s*(choice|range|interval|glob|sort|shuffle|tag|extend_list|int|float|str|bool|json_str)\s*\("
)
_NAME = re.compile(r"(\+\+?|~)?[A-Za-z_][\w./@:-]*")


def assignment(key: str, value: object) -> str:
    """The override that sets a value of a configuration, such as one of a study's grid."""
    return f"{key}={'null' if value is None else value}"


def expand(arguments: list[str]) -> list[str]:
    """Split the argument after `--overrides` as a shell would.

    `mlflow run -P overrides="a=1 b=x,y"` passes everything as a single argument.
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
    # MLflow logs its parameters onto the run, which then takes no other value.
    parameters = {word.partition("=")[0] for word in arguments[:at]}
    for word in words:
        key, _, value = word.lstrip("+").partition("=")
        if key == "experiment":
            raise MisuseError(
                f"overrides must not hold a study, got {word}, as the entry point's parameters replace its values: run "
                f"`opscore run {shlex.quote(word)}`, or `opscore sweep` for a grid"
            )
        if key in parameters:
            raise MisuseError(
                f"{key} is a parameter of the entry point and must not be in overrides, got {word}: write "
                f"-P {key}={shlex.quote(value)}"
            )
    return arguments[:at] + words + arguments[at + 2 :]


def prepared(arguments: list[str], *, shows: bool = False) -> list[str]:
    """The arguments with options first, as Hydra requires, and each override in a form that Hydra can parse.

    shows: whether the command runs nothing, whatever its options are. Raises MisuseError where an override has no such
    form.
    """
    given = _options(arguments)
    words: list[str] = given.overrides
    _check_blanks(words)
    options = list(arguments)
    for word in words:
        options.remove(word)
    # Hydra's shell completion gets incomplete words.
    if given.shell_completion:
        return [*options, *words]
    # Words of a command that only shows something are no sweep either.
    shows = shows or bool(given.cfg or given.info)
    found = [parsed(word, multirun=given.multirun, line=[] if shows else [*options, *words]) for word in words]
    return [*options, *(_with_their_choices(found) if given.multirun else found)]


def for_compose(arguments: Sequence[str]) -> list[str]:
    """The overrides alone, as `hydra.compose` takes them; `--config-dir` becomes a place where Hydra searches."""
    given = get_args_parser().parse_intermixed_args(list(arguments))
    search = [f"hydra.searchpath=[{_as_text(f'file://{given.config_dir}')}]"] if given.config_dir else []
    return [*search, *given.overrides]


def _with_their_choices(words: Sequence[str]) -> list[str]:
    """The overrides of a grid, those of fields of a choice that the grid varies as a grid of one value.

    `technique=cluster,prune technique.epochs=2`: Hydra first composes a configuration without the grid, where the
    default technique may lack the field, and leaves out what is part of the grid. A study may vary what is not given.
    """
    overrides = OverridesParser.create().parse_overrides(list(words))
    varied = {_place(one) for one in overrides if one.is_sweep_override()}
    if any(one.key_or_group == "experiment" for one in overrides):
        varied |= {"model", "dataset", "technique"} - {_place(one) for one in overrides}

    def with_choice(word: str, override: Override) -> str:
        alone = override.is_sweep_override() or override.is_add() or override.is_force_add() or override.is_delete()
        name, _, value = word.partition("=")
        if alone or not value or not any(_place(override).startswith(f"{one}.") for one in varied):
            return word
        # A grid has no null, and takes the quotes of a text.
        kept = override.value() is None or value[0] in "\"'"
        return f"++{word}" if kept else f"{name}=choice({value})"

    return list(map(with_choice, words, overrides))


def _place(override: Override) -> str:
    """Where in the configuration it is: `technique.source.model` of `model@technique.source.model=vgg16`."""
    return override.package or override.key_or_group


def _check_blanks(words: Sequence[str]) -> None:
    """Raise MisuseError where blanks split an override, as in `seed = 1` and `technique=baseline, qat`."""
    for index, (word, following) in enumerate(pairwise(words)):
        if "=" in following or following.startswith("~") or not word.endswith((",", "=")):
            continue
        split = [*words[index - 1 : index], word, following] if word == "=" else [word, following]
        raise MisuseError(
            f"overrides must hold no blanks, got {' '.join(split)!r}: write {shlex.quote(''.join(split))}"
        )


def _options(arguments: Sequence[str]) -> Namespace:
    """Hydra's options. Raises MisuseError where argparse would print its usage."""
    parser = get_args_parser()
    # `--experiment` is no short form of Hydra's --experimental-rerun.
    parser.allow_abbrev = False
    known = [option for action in parser._actions for option in action.option_strings]

    def refuse(message: str) -> NoReturn:
        if wrong := re.match(r"argument --info/-i: invalid choice: '(.*?)' \(choose from (.*)\)", message):
            choices = ["compatibility", *re.findall(r"'(.*?)'", wrong[2])]
            raise MisuseError(
                f"--info must be one of {', '.join(choices)}, got {wrong[1]!r}: write for example "
                f"--info {nearest(wrong[1], choices) or choices[0]}"
            )
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        # Its name is near to that of Hydra's --experimental-rerun.
        is_group = unknown.removeprefix("--").partition("=")[0] in (*GROUPS, "experiment")
        meant = None if is_group else nearest(unknown, known)
        if meant is None and unknown.startswith("--") and unknown in arguments:
            following = next(iter(arguments[list(arguments).index(unknown) + 1 :]), "")
            is_other = re.match(r"--?[A-Za-z]", following) or re.match(rf"{_NAME.pattern}=", following)
            value = "" if is_other else following
            word = unknown.removeprefix("--") + ("" if "=" in unknown else f"={value}")
            if not word.endswith("="):
                raise MisuseError(f"overrides must be written without --, got {unknown}: write {shlex.quote(word)}")
        mend = f"did you mean {meant}?" if meant else "`opscore run --help` lists the options"
        raise MisuseError(f"{message}: {mend}")

    parser.error = refuse  # type: ignore[method-assign]
    return parser.parse_intermixed_args(list(arguments))


def parsed(word: str, *, multirun: bool = False, line: Sequence[str] | None = None) -> str:
    """The override in a form that Hydra can parse. Raises MisuseError where it has no meaning or several.

    line: all words of the command, for its repetition as a sweep; the word alone by default, empty where none helps.
    """
    line = [word] if line is None else line
    name, separator, value = word.partition("=")
    if is_text(name) and re.match(r"\s*glob\(", value):
        home = os.path.expanduser("~")  # noqa: PTH111 (Path's own raises where there is none)
        value = re.sub(r"(?<=[(\[,='\"])~(?=/)", lambda _: home, value)
        word = f"{name}{separator}{value}"
    elif is_text(name) and not re.search(r"[\[({]", value):
        # No shell expands it after `dataset.path=`. A grid has several.
        value = ",".join(map(os.path.expanduser, value.split(",")))
        word = f"{name}{separator}{value}"
    parser = OverridesParser.create()
    try:
        override = parser.parse_override(word)
    except HydraException as error:
        if not _NAME.fullmatch(name) or not separator:
            raise MisuseError(
                f"arguments must be name=value, got {word!r}: write for example model=resnet50 or training.epochs=3"
            ) from error
        if multirun and is_text(name) and "," in value and not any(map(_may_be_meant_otherwise, value.split(","))):
            return f"{name}={','.join(map(_as_text, value.split(',')))}"
        if _may_be_meant_otherwise(value):
            raise MisuseError(
                f"{name} must be a value that Hydra can parse, got {value!r} ({str(error).splitlines()[0]}): if it is "
                f"a text, write {pasted(name, value)}"
            ) from error
        return quoted(name, value)
    if multirun and is_text(name) and "." in name and override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        return f"{name}={','.join(map(_as_text, _matching(name, cast(Glob, override.value()))))}"
    listed = None if override.is_sweep_override() else override.value()
    if not line and ((isinstance(listed, list) and "." not in name) or (override.is_sweep_override() and not multirun)):
        raise MisuseError(f"{name} must be one value, as one cell is shown, got {value}: name one of them")
    if "." not in name and isinstance(listed, list):
        grid = grid_command([f"{name}={','.join(map(str, listed))}" if one == word else one for one in line])
        raise MisuseError(f"{name} must be one choice, got {value}: for a grid write `{grid}`")
    if is_text(name) and _is_mistaken(override):
        return quoted(name, value)
    if multirun and is_text(name) and override.value_type is ValueType.SIMPLE_CHOICE_SWEEP:
        return f"{name}={_texts(override, value)}"
    if override.is_sweep_override() and not multirun:
        text = f", or as one text {pasted(name, value)}" if is_text(name) else ""
        raise MisuseError(
            f"{name} must be one value for one cell, got {value}: for a grid write `{grid_command(line)}`{text}"
        )
    return word


def _matching(name: str, pattern: Glob) -> list[str]:
    """The files and folders of a `glob(...)`, in the order of their names. Hydra's own is for groups alone."""
    # Hydra leaves quotes around those of a list.
    include, exclude = (
        [one.text if isinstance(one, QuotedString) else str(one) for one in given]
        for given in (pattern.include, pattern.exclude)
    )
    found = {one for given in include for one in glob.glob(given, recursive=True)}  # noqa: PTH207 (or absolute)
    kept = sorted(one for one in found if not any(fnmatch(one, given) for given in exclude))
    if not kept:
        raise MisuseError(
            f"{name} must match at least one file or folder, got glob of {', '.join(include)}: correct the pattern"
        )
    return kept


def is_text(name: str) -> bool:
    """Whether the field of this name holds a text."""
    return re.split(r"[.+]", name)[-1] in TEXT


def quoted(name: str, value: str) -> str:
    """`name="value"`, which Hydra reads as a text whatever the value is."""
    return f"{name}={_as_text(value)}"


def _as_text(value: str) -> str:
    return QuotedString(value, Quote.double).with_quotes()


def pasted(name: str, value: str) -> str:
    """The override with its value as a text, quoted for bash and zsh."""
    return shlex.quote(quoted(name, value))


def _may_be_meant_otherwise(value: str) -> bool:
    """Whether it may be a mistyped list, dictionary, quoted text, function or grid."""
    return value.lstrip()[:1] in ("[", "{", '"', "'") or "," in value or "${" in value or bool(_FUNCTIONS.match(value))


def _is_mistaken(override: Override) -> bool:
    """Whether Hydra read a field's text as a number, a boolean, a list or a dictionary."""
    if override.is_sweep_override() or override.is_delete():
        return False
    return isinstance(override.value(), int | float | list | dict)


def _texts(override: Override, value: str) -> str:
    """The values of a grid, with quotes for those that Hydra reads as numbers or booleans."""
    found, parts = cast(ChoiceSweep, override.value()).list, value.split(",")
    if len(found) != len(parts):
        return value  # a comma within quotes
    pairs = zip(found, parts, strict=True)
    return ",".join(_as_text(part.strip()) if isinstance(one, int | float) else part for one, part in pairs)


def grid_command(overrides: Sequence[str]) -> str:
    """The command that runs a grid, quoted for bash and zsh."""
    return shlex.join(["opscore", "sweep", *overrides])
