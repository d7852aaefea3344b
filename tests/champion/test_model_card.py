import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from pipelines.champion import licences, model_card
from pipelines.champion.model_card import Facts, code
from pipelines.results.cell_result import CellResult
from pipelines.results.recorded_cell import RecordedCell
from pipelines.results.tables import plain
from tests.comparison.recorded import recorded
from tests.results.test_summary import RESULT, UNKNOWN

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"


@pytest.mark.parametrize("path", sorted(CONF.glob("[!k]*.yaml")), ids=lambda path: path.stem)
def test_every_network_with_imagenet_weights_has_a_licence(path: Path) -> None:
    config = yaml.safe_load(path.read_text())
    (sentence,) = licences.of_weights({f"model.{key}": str(value) for key, value in config.items()})
    assert licences.UNKNOWN not in sentence
    assert ("ImageNet weights" in sentence) is (config["weights"] == "imagenet")


def test_teachers_and_donors_have_licences() -> None:
    sentences = licences.of_weights(
        {
            "model._target_": "pipelines.models.vgg.VGG",
            "model.weights": "/data/mine.h5",
            "technique.steps.distill.source.model._target_": "pipelines.models.resnet.ResNet",
            "technique.steps.distill.source.model.weights": "imagenet",
            "technique.steps.distill.source.uri": "None",
            "technique.source.uri": "runs:/abc",
        }
    )
    assert len(sentences) == 3
    assert "`/data/mine.h5`, the licence of which is not known here" in sentences[0]
    assert sentences[1].startswith("The network that it learnt from") and "MIT" in sentences[1]
    assert "runs:/abc" in sentences[2]


@pytest.mark.parametrize("target", ["pipelines.models.new.New", "theirs.resnet.ResNet", "resnet.ResNet"])
def test_a_network_without_a_known_licence(target: str) -> None:
    (sentence,) = licences.of_weights({"model._target_": target, "model.weights": "imagenet"})
    assert licences.UNKNOWN in sentence and "MIT" not in sentence


def facts_of(cell: RecordedCell, result: CellResult, tags: dict[str, str]) -> Facts:
    return Facts(
        name="opscore-x",
        number="1",
        cell=cell,
        result=result,
        tags=tags,
        labels=("a", "b"),
        sha256="f",
        output="as uint8 (subtract 3, then multiply by 0.5)",
        program="print()\n",
        program_for="by litert with 1 thread",
    )


@pytest.mark.parametrize(
    ("result", "before", "term"),
    [
        (RESULT, "100 s", "training time -10.00"),
        (UNKNOWN, "unknown", "training time left out, as it is unknown"),
        (replace(RESULT, timing=replace(RESULT.timing, train_total_s=0.0)), "none, it starts from no cell", "-10.00"),
    ],
    ids=["known", "unknown", "none"],
)
def test_card_states_the_training_before(result: CellResult, before: str, term: str) -> None:
    cell = recorded("quantize_int8", params={"model.weights": "None", "model._target_": "pipelines.models.vgg.VGG"})
    result = replace(result, hardware={"ai-edge-litert": "2"})
    tags = {"train_time_note": "It is unknown."}
    text = model_card.card(facts_of(cell, result, tags))
    assert f"| training before it | {before} |" in text and term in text
    assert "| training time | It is unknown. |" in text


def test_card_names_the_fastest_runtime_of_each_device() -> None:
    base = recorded("quantize_int8", params={"model.weights": "None", "model._target_": "pipelines.models.vgg.VGG"})
    result = replace(RESULT, hardware={"ai-edge-litert": "2"})
    assert "## On devices" not in model_card.card(facts_of(base, result, {}))
    figures = {
        "measure/pi/litert/p50_ms_1t": 4.0,
        "measure/pi/openvino/p50_ms_1t": 3.0,
        "measure/pi/openvino/p50_ms_2t": 2.0,
        "measure/pi/openvino/valid": 0.0,
        "measure/pi/openvino/valid_1t": 1.0,
        "measure/pi/openvino/valid_2t": 0.0,
        "measure/pi/openvino/agreement": 0.995,
        "measure/laptop/litert/p50_ms_1t": 1.0,
        "measure/laptop/openvino/p50_ms_1t": 0.5,
        "measure/laptop/openvino/agreement_changed": 0.5,
    }
    tags = {
        "measure/pi/openvino/version": "openvino 2026.4.1",
        "measure/pi/openvino/precision": "bfloat16",
        "measure/pi/litert/hardware": '{"processor": "A76", "cores": 4, "runtime": "LiteRT 2"}',
        "measure/pi/openvino/invalid": "2 threads: windows must agree",
    }
    cell = replace(base, metrics=base.metrics | figures, on_devices=tags)
    card = model_card.card(facts_of(cell, result, {}))
    assert "| pi | openvino | openvino 2026.4.1 | 1 | bfloat16 | 3.00 | 3.00 to 3.00 | 99.5% | yes |" in card
    assert "| pi | openvino | openvino 2026.4.1 | 2 | bfloat16 | 2.00 | 2.00 to 2.00 | 99.5% | INVALID |" in card
    assert "| laptop | openvino | - | 1 | - | 0.500 | 0.500 to 0.500 | - | INVALID |" in card
    assert "INVALID, openvino on pi: 2 threads: windows must agree." in card
    assert "one logit a class, as uint8 (subtract 3, then multiply by 0.5), in the order of" in card
    assert "Fastest on pi: **openvino** with 2 threads (processor=A76, cores=4)." in card
    assert "Fastest on laptop: **litert** with 1 thread." in card


def test_score_is_the_one_that_decided() -> None:
    cell = recorded("quantize_int8", params={"model.weights": "None", "model._target_": "pipelines.models.vgg.VGG"})
    result = replace(RESULT, hardware={"ai-edge-litert": "2"})
    terms = {"score/accuracy_db": "72.0000", "score/size_db": "3.0000", "score/test_time_db": "-1.5000"}
    tags = terms | {"score/operational": "73.5000", "opscore.target": "pi", "opscore.runtime": "openvino"}
    card = model_card.card(facts_of(cell, result, tags))
    # That of its run is known: it does not compare with another candidate's.
    expected = "73.5 dB: accuracy +72.00, size +3.00, testing time -1.50, training time left out"
    assert f"| operational score | {expected} |" in card
    assert "| device whose times decided | pi |" in card and "| runtime there | openvino |" in card


def rendered(markdown: str) -> str:
    """The rendered text of one line of markdown."""
    html = MarkdownIt("commonmark").render(markdown).strip().removeprefix("<p>").removesuffix("</p>")
    assert not set(re.findall(r"<[^>]*>", html)) - {"<code>", "</code>"}, html
    return unescape(re.sub(r"</?code>", "", html))


@pytest.mark.parametrize(
    "text",
    ["$x$", "a|b", "<b>x</b>", "a_b_c", "_a_", "*a*", "`a`", "a``", "[x](y)", "&amp;", "\\", "# x", "~~x~~", "花"],
)
def test_names_are_rendered_literally(text: str) -> None:
    assert rendered(plain(text)) == text
    assert rendered(f"x {code(text)} y") == f"x {text} y"
    assert rendered(f"x {code(f' {text} ')} y") == f"x  {text}  y"
