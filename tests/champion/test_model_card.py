import re
from html import unescape
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from pipelines.champion import licences, model_card
from pipelines.champion.model_card import code, plain

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_network_with_imagenet_weights_has_a_licence(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    (said,) = licences.of_weights({f"model.{key}": str(value) for key, value in config.items()})
    assert licences.UNKNOWN not in said
    assert ("ImageNet weights" in said) is (config["weights"] == "imagenet")


def test_all_networks_that_were_learnt_from_count() -> None:
    said = licences.of_weights(
        {
            "model._target_": "pipelines.models.vgg.VGG",
            "model.weights": "/data/mine.h5",
            "technique.steps.distill.source.model._target_": "pipelines.models.resnet.ResNet",
            "technique.steps.distill.source.model.weights": "imagenet",
            "technique.steps.distill.source.uri": "None",
            "technique.source.uri": "runs:/abc",
        }
    )
    assert len(said) == 3
    assert "`/data/mine.h5`, the licence of which is not known here" in said[0]
    assert said[1].startswith("The network that it learnt from") and "MIT" in said[1]
    assert "runs:/abc" in said[2]


def test_a_network_without_a_known_licence_says_so() -> None:
    (said,) = licences.of_weights({"model._target_": "pipelines.models.new.New", "model.weights": "imagenet"})
    assert licences.UNKNOWN in said


def test_the_snippet_has_six_lines() -> None:
    assert len(model_card.SNIPPET.splitlines()) == 6


def shown(markdown: str) -> str:
    """What a reader of the markdown sees of one line."""
    html = MarkdownIt("commonmark").render(markdown).strip().removeprefix("<p>").removesuffix("</p>")
    assert not set(re.findall(r"<[^>]*>", html)) - {"<code>", "</code>"}, html
    return unescape(re.sub(r"</?code>", "", html))


@pytest.mark.parametrize(
    "text",
    ["$x$", "a|b", "<b>x</b>", "a_b_c", "_a_", "*a*", "`a`", "a``", "[x](y)", "&amp;", "\\", "# x", "~~x~~", "花"],
)
def test_names_are_shown_as_they_are_written(text: str) -> None:
    assert shown(plain(text)) == text
    assert shown(f"x {code(text)} y") == f"x {text} y"
    assert shown(f"x {code(f' {text} ')} y") == f"x  {text}  y"
