"""Click's commands with options that may also be written `name=value`, and refusals in one sentence."""

from __future__ import annotations

import functools
import inspect
import shlex
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from pipelines.system import guard, terminal
from pipelines.system.checks import nearest
from pipelines.system.errors import StoreError
from pipelines.system.guard import MisuseError
from pipelines.system.places import expanded
from pipelines.system.words import one_line
from pipelines.tracking.address import tracking_uri
from pipelines.tracking.credentials import redacted
from pipelines.tracking.reachable import check_reachable

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Setting(click.Option):
    """An option with a value. An empty value counts as not given, because `mlflow run` passes empty values."""

    def consume_value(self, ctx: click.Context, opts: Any) -> tuple[Any, ParameterSource]:
        """The value and its source."""
        value, source = super().consume_value(ctx, opts)
        return (self.get_default(ctx), ParameterSource.DEFAULT) if value == "" else (value, source)


class Command(click.Command):
    """A command that keeps the lines of its help text and refuses in one sentence."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **{"context_settings": HELP, **settings})

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments. Raises MisuseError."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            path = f"{parent.command_path} {info_name}" if parent else str(info_name)
            raise MisuseError(refusal(error, self, path)) from error

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's)
        """Fit the prose into the terminal, and keep the lines of commands, which are indented."""
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            lines = paragraph.splitlines()
            if not any(line.startswith(" ") for line in lines):
                lines = textwrap.wrap(paragraph, formatter.width, break_long_words=False, break_on_hyphens=False)
            formatter.write("\n" + "".join(f"{line}\n" for line in lines))


class WordCommand(Command):
    """A command whose options with a value may also be given as words: `dataset=cifar10` for `--dataset cifar10`.

    positional: whether a word is an argument and no option.
    """

    def __init__(self, *args: Any, positional: Callable[[str], bool] = lambda _: False, **settings: Any) -> None:
        super().__init__(*args, epilog="Options with a value may also be written name=value.", **settings)
        self.positional = positional

    @property
    def valued(self) -> set[str]:
        """All names of the options that have a value."""
        return {name for option in self._settings for name in option.opts}

    @property
    def _settings(self) -> list[click.Option]:
        return [one for one in self.params if isinstance(one, click.Option) and not one.is_flag]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, words included."""
        return super().parse_args(ctx, args if ctx.resilient_parsing else list(self.options_of(args)))

    def options_of(self, arguments: Sequence[str]) -> Iterator[str]:
        """The arguments with `--name=value` for each word `name=value`.

        Raises MisuseError for any other word, NoSuchOption for an unknown option.
        """
        options = [*_options(self), *HELP["help_option_names"]]
        valued = self.valued
        left = iter(arguments)
        for word in left:
            if word.startswith("-") or self.positional(word):
                # Otherwise the next word, which is probably its value, would be refused.
                if word.startswith("--") and word.partition("=")[0] not in options:
                    raise click.NoSuchOption(word.partition("=")[0])
                yield word
                # The value of an option may be any word.
                yield from islice(left, 1 if word in valued else 0)
            elif "=" in word and f"--{word.partition('=')[0]}" in valued:
                yield f"--{word}"
            else:
                names = [option.opts[-1].removeprefix("--") for option in self._settings]
                raise MisuseError(_unknown_word(word, names, [one.removeprefix("--") for one in valued]))


class Location(click.Path):
    """A path. `~` is the home folder even where no shell expands it, as in `--out=~/champion`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The Path."""
        return super().convert(expanded(value), param, ctx)


def setting(*names: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The decorator of an option with a value. Refusals list the last of its names that begin with --."""
    return click.option(*names, cls=Setting, **settings)


# `tracking.uri` is its name on Hydra's command lines.
STORE = functools.partial(
    setting, "--tracking-uri", "--tracking.uri", "uri", metavar="URI",
    help="The store; default: MLFLOW_TRACKING_URI, else mlruns/mlflow.db.",
)  # fmt: skip
OUT = functools.partial(setting, "--out", metavar="FOLDER", type=Location())
DRY_RUN = functools.partial(click.option, "--dry-run", is_flag=True, help="Show the result, change nothing.")
# Gives `width`, the number of columns for tables. A pipe or a file gets all columns.
WIDE = functools.partial(
    click.option,
    "--wide",
    "width",
    is_flag=True,
    callback=lambda _context, _option, wide: terminal.UNLIMITED if wide else terminal.columns(),
    help="Show all columns, however narrow the terminal is.",
)


@contextmanager
def checked() -> Iterator[None]:
    """Turn the errors of checks into MisuseError."""
    try:
        yield
    except (ValueError, OSError, StoreError) as error:
        raise MisuseError(guard.sentence(error)) from error


def open_address(uri: str | None) -> str:
    """The address of a store that answers. uri: None for the default store. Raises MisuseError for any other store."""
    with checked():
        address = tracking_uri(uri)
        check_reachable(address)
    return address


def required_dataset(dataset: str | None) -> str:
    """The given dataset. Raises MisuseError where there is none."""
    if not dataset:
        raise MisuseError("dataset must be given, got none: set for example dataset=cifar10")
    return dataset


def refusal(error: click.UsageError, command: click.Command, path: str) -> str:
    """Click's error in one sentence without passwords. path: the words that name the command."""
    if isinstance(error, click.NoSuchOption):
        options = _options(command)
        meant = nearest(error.option_name, options)
        mend = f"did you mean {meant}?" if meant else f"`{path} --help` explains them"
        return f"options must be among {', '.join([*options, '--help'])}, got {error.option_name!r}: {mend}"
    message = one_line(error.format_message()).rstrip(".")
    return redacted(f"{message[:1].lower()}{message[1:]}: `{path} --help` lists the options")


def _options(command: click.Command) -> list[str]:
    return [option for one in command.params if isinstance(one, click.Option) for option in one.opts]


def _unknown_word(word: str, names: Sequence[str], every: Sequence[str]) -> str:
    """The refusal of a word. names: to be listed. every: also the other names of the options."""
    name, _, value = word.partition("=")
    meant = nearest(name, every)
    mend = f"did you mean {redacted(f'{meant}={value}')}?" if meant else "--help explains them"
    if name in ("model", "technique", "seed") and value and "filter" in names:
        condition = f"tags.{name} = '{value}'"
        mend = f"choose cells with --filter {shlex.quote(condition)}"
    return f"arguments must be name=value with one of {', '.join(names)}, got {redacted(word)!r}: {mend}"
