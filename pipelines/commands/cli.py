"""The command `opscore`, which loads a subcommand only when it is called, so that its help is quick."""

from __future__ import annotations

import importlib
import os
import sys

import click
from click.shell_completion import CompletionItem, shell_complete

from pipelines import __version__
from pipelines.commands import arguments, completion
from pipelines.system import guard, runtime
from pipelines.system.checks import nearest
from pipelines.system.guard import MISUSE, MisuseError

NAME, COMPLETE = "opscore", "_OPSCORE_COMPLETE"
# All but the first two are `command` in the module of their name.
COMMANDS = {
    "run": "Train, optimize, export, measure, score and record one cell.",
    "sweep": "Do the same for a grid of cells: technique=baseline,qat seed=0,1.",
    "compare": "Compare recorded cells, the highest score first.",
    "report": "Write recorded cells as one HTML page with figures.",
    "measure": "Measure exported models on this machine.",
    "promote": "Make the fittest cell of a dataset its champion.",
    "rollback": "Return to an earlier champion.",
    "pull": "Download a champion with its labels and model card.",
    "layers": "Show which layers of a cell lose most in 8 bits.",
    "sync": "Send finished cells to a tracking store that did not answer.",
    "server": "Serve MLflow on PostgreSQL, for this machine.",
    "cache": "Show or delete the decoded images of datasets.",
}
EPILOG = """
`opscore COMMAND --help` explains a command. `run` and `sweep` take Hydra's overrides, and `opscore model=vgg16` is
`opscore run model=vgg16`. The other commands take options; all but `sync` and `cache` also as name=value:
`dataset=cifar10` for `--dataset cifar10`.

Exit status:
  0    done
  1    failed: a cell failed, the store refused, or no cell matched or passed
  2    refused before anything was computed: the arguments, the configuration, or a missing store
  130  interrupted
  141  the reader of the output has ended, as after `| head`

Completion of commands, options and overrides, for bash (for zsh and fish: zsh_source, fish_source):
  eval "$(_OPSCORE_COMPLETE=bash_source opscore)"
"""


# Hydra's options that show something and run nothing.
SHOWING = ("--cfg", "-c", "--info", "-i")


class Hydra(click.Command):
    """A command whose arguments all go to Hydra. ahead: options that go before them."""

    def __init__(self, name: str, *ahead: str) -> None:
        super().__init__(name, add_help_option=False)
        self.ahead = ahead

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep all arguments."""
        ctx.args = list(args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> None:
        """Run the cell or the grid; ends the process."""
        from pipelines.commands import run

        # Hydra shows a configuration, and no grid of them.
        shows = any(word.partition("=")[0] in SHOWING for word in ctx.args)
        sys.argv[1:] = [*([] if shows else self.ahead), *ctx.args]
        run.main()

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Hydra's completions of the next word."""
        return [CompletionItem(word) for word in completion.overrides([*self.ahead, *ctx.args], incomplete)]


class Opscore(click.Group):
    """The group of all commands. Overrides without a command are those of `run`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's)
        """The names in the order in which a user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's)
        """Load a command; None for an unknown name."""
        if cmd_name in ("run", "sweep"):
            return Hydra(cmd_name, *(["-m"] if cmd_name == "sweep" else []))
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"pipelines.commands.{cmd_name}").command
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Find the command. Raises MisuseError where the first word is neither a command nor an override."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(MISUSE)
        return super().parse_args(ctx, routed(args))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's)
        """Write a line for each command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 (click's)
        """Keep the lines of the text."""
        formatter.write(EPILOG)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands and options, without loading any."""
        commands = [CompletionItem(name, help=help) for name, help in COMMANDS.items() if name.startswith(incomplete)]
        return commands + (click.Command.shell_complete(self, ctx, incomplete) if incomplete.startswith("-") else [])


def routed(words: list[str]) -> list[str]:
    """The words with a command first, which is `run` where they begin with an override. Raises MisuseError."""
    first = words[0]
    if first == "help":
        return [*(routed(words[1:2]) if words[1:] else ()), "--help"]
    if first in (*COMMANDS, "-h", "--help", "--version"):
        return words
    if "=" in first or first.startswith(("-", "~", "+")):
        return ["run", *words]
    meant = nearest(first, COMMANDS)
    mend = f"did you mean {NAME} {meant}?" if meant else f"`{NAME} --help` lists them"
    raise MisuseError(f"the command must be one of {', '.join(COMMANDS)}, or name=value for run, got {first!r}: {mend}")


opscore = Opscore(
    NAME,
    help="Train, compress and measure image classifiers, and recommend the .tflite file to deploy.",
    context_settings=arguments.HELP,
    params=[],
)
click.version_option(__version__, prog_name=NAME, message="%(prog)s %(version)s")(opscore)


def main() -> None:
    """Entry point of `opscore` and of `python -m pipelines`."""
    if instruction := os.environ.get(COMPLETE):
        sys.exit(shell_complete(opscore, {}, NAME, COMPLETE, instruction))
    _run()


@guard.command
def _run() -> int | None:
    runtime.relax_gc()
    try:
        with opscore.make_context(NAME, sys.argv[1:]) as context:
            context.command.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    return None
