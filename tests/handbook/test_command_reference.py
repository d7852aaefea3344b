"""The website's page of all commands has what their help says."""

import re

import pytest

from handbook.command_reference import as_markdown, command_reference
from pipelines.commands.cli import COMMANDS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two\nlines.\n\n  opscore run\n    x=1\n", "Two\nlines.\n\n```text\nopscore run\n  x=1\n```"),
        ("Status:\n  0  done", "Status:\n\n```text\n0  done\n```"),
        ("model: vgg16, vgg19\nscore: edge", "- `model`: vgg16, vgg19\n- `score`: edge"),
        ("Below measure/<device>, as `<run id>`.", "Below measure/&lt;device>, as `<run id>`."),
    ],
)
def test_help_becomes_markdown(text: str, expected: str) -> None:
    assert as_markdown(text) == expected


@pytest.mark.slow
def test_page_has_every_command_with_its_options() -> None:
    page = command_reference()
    assert re.findall(r"^## opscore (\w+)$", page, re.MULTILINE) == [*COMMANDS]
    for part in (
        "\n130  interrupted\n",
        "\n- `dataset`: cifar10, cifar100, digits",
        "```text\nopscore measure [OPTIONS] [FILE.tflite]...\n```\n\nMeasure exported models on this machine:",
        "\n| `--out FOLDER` | Where the report goes.  [default: report] |\n",
        "\n| `--tracking-uri, --tracking.uri URI` | The store; default: MLFLOW_TRACKING_URI",
    ):
        assert part in page
