import click
import pytest

from pipelines.commands import arguments, selection
from pipelines.commands.selection import Selection
from pipelines.system.guard import MisuseError


@click.command("try", cls=arguments.WordCommand, help="What it does.", positional=lambda word: word.endswith(".tflite"))
@click.argument("files", nargs=-1)
@selection.options
@click.option("--into")
@arguments.DRY_RUN()
def command(chosen: Selection, **others: object) -> tuple[Selection, dict[str, object]]:
    return chosen, others


def given(*words: str) -> Selection:
    chosen, _ = parsed(*words)
    return chosen


def parsed(*words: str) -> tuple[Selection, dict[str, object]]:
    with command.make_context("opscore try", list(words)) as context:
        return context.command.invoke(context)


@pytest.mark.parametrize(
    ("words", "selection"),
    [
        ("", Selection()),
        ("--dataset cifar10 --sweep last", Selection(dataset="cifar10", sweep="last")),
        ("dataset=cifar10 sweep=last", Selection(dataset="cifar10", sweep="last")),
        ("--dataset=cifar10 experiment=mine", Selection(dataset="cifar10", experiment="mine")),
        ("dataset=a=b", Selection(dataset="a=b")),
        # `mlflow run` passes what was not given as nothing.
        ("experiment= sweep= --filter= dataset=x", Selection(dataset="x")),
        ("dataset=a --dataset b", Selection(dataset="b")),
        ("--dataset b dataset=a", Selection(dataset="a")),
        ("--filter params.x=1", Selection(filter="params.x=1")),
        ("filter=--x", Selection(filter="--x")),
        ("--tracking-uri sqlite:///a.db", Selection(uri="sqlite:///a.db")),
        ("tracking.uri=sqlite:///a.db", Selection(uri="sqlite:///a.db")),
        ("tracking.experiment=mine", Selection(experiment="mine")),
        ("--tracking.experiment mine", Selection(experiment="mine")),
    ],
)
def test_words_and_options_make_one_selection(words: str, selection: Selection) -> None:
    assert given(*words.split()) == selection


def test_words_stand_anywhere() -> None:
    chosen, others = parsed("a.tflite", "dataset=a", "--into", "b=c", "--dry-run", "sweep=d", "e.tflite")
    assert chosen == Selection(dataset="a", sweep="d")
    assert others == {"files": ("a.tflite", "e.tflite"), "into": "b=c", "dry_run": True}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("datset=1", "arguments must be name=value with one of dataset, .* got 'datset=1': did you mean dataset=?"),
        ("dataset", "got 'dataset': did you mean dataset=?"),
        ("tracking.experiments=a", "did you mean tracking.experiment=a?"),
        ("=1", "got '=1': --help explains them"),
        ("dry-run=1", "got 'dry-run=1'"),
        ("--datset 1", "options must be among --dataset, .* got '--datset': did you mean --dataset?"),
        ("--zzz=1", "got '--zzz': `opscore try --help` explains them"),
        ("--dataset", "option '--dataset' requires an argument: `opscore try --help` lists the options"),
        ("tracking=http://me:secret@host", r"got 'tracking=http://me:\*\*\*@host'"),
    ],
)
def test_unknown_words_get_a_sentence(words: str, sentence: str) -> None:
    with pytest.raises(MisuseError, match=sentence):
        parsed(*words.split())


def test_help_keeps_its_lines_and_lists_the_names() -> None:
    shown = command.get_help(click.Context(command, info_name="opscore try"))
    assert "What it does." in shown and "--tracking-uri, --tracking.uri URI" in shown and "name=value" in shown


def test_selection_shows_no_store() -> None:
    chosen = Selection(dataset="cifar10", sweep="last", uri="postgresql://me:secret@host/db")
    assert str(chosen) == "dataset=cifar10 sweep=last experiment=opscore"
    assert "secret" not in repr(chosen)
