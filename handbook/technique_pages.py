"""A page for each technique, which the website has in addition to docs/ (`make site`)."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from pipelines.cells.compatibility import Compatibility, choices
from pipelines.techniques.base import Chain, Technique
from pipelines.techniques.baseline import Baseline

_IN_TRAINING = "Nothing, as the file cannot show it; opscore checks during training."
_OF_BASELINE = "Nothing: other cells are compared with it."


def technique_pages(conf: Path) -> dict[str, str]:
    """A page of markdown for each technique of the folder `conf`, by the technique's name; chains come last.

    The text is from the class's docstring, the settings from the yaml with its comments.
    """
    techniques: dict[str, Technique] = choices(conf, "technique")
    reasons = Compatibility.of(conf).reasons
    ordered = sorted(techniques, key=lambda name: (isinstance(techniques[name], Chain), name))
    return {
        name: "\n\n".join(
            [
                f"# {name}",
                *_description(techniques[name], techniques),
                f"    opscore run {_words(name)}",
                *_settings(techniques[name], name, conf),
                "## Checked on the exported model",
                *_effects(techniques[name]),
                "## Models",
                *_models({model: reason for (one, model), reason in reasons.items() if one == name}),
                "[Compatibility](../compatibility.md) lists all pairs, and the "
                "[study of the techniques](../../maintainers/technique-study.md) has measured effects.",
                *_source(techniques[name]),
            ]
        )
        + "\n"
        for name in ordered
    }


def _words(name: str) -> str:
    """What a command gives to run a technique: itself, and what it does not have by default."""
    step, _, _ = name.partition("_quantize")
    if step == "transfer":
        return f"model=efficientnet_lite0 technique={name}"
    if step == "distill":
        source = "technique.source" if step == name else f"technique.steps.{step}.source"
        return f"technique={name} model@{source}.model=resnet50"
    if step == "layer_transfer":
        return f"model=vgg19 technique={name} model@technique.source.model=vgg16"
    return f"technique={name}"


def _description(technique: Technique, names: Collection[str]) -> Iterator[str]:
    """The docstring without the meanings of settings; of a chain its steps."""
    if isinstance(technique, Chain):
        parent = technique.parent.name
        yield f"A combination: {_linked(technique.summary, names)}."
        yield _linked(f"It starts from the cell of `{parent}`, which a sweep trains only once.", names)
        return
    yield _linked(technique.summary, names)
    yield from (text for setting, text in _docstring(technique) if not setting)


def _settings(technique: Technique, name: str, conf: Path) -> Iterator[str]:
    yaml = (conf / "technique" / f"{name}.yaml").read_text()
    path = "technique.steps.<step>" if isinstance(technique, Chain) else "technique"
    meanings = [] if isinstance(technique, Chain) else [text for setting, text in _docstring(technique) if setting]
    if re.fullmatch(r"_target_: .*\n", yaml):
        return
    yield "## Settings"
    yield f"Change a setting with `{path}.<setting>=...`. The values are those of `conf/technique/{name}.yaml`:"
    yield f"```yaml\n{yaml}```"
    if meanings:
        yield "\n".join(meanings)


def _docstring(technique: Technique) -> Iterator[tuple[bool, str]]:
    """The docstring after its first sentence: paragraphs, and an item of a list for each setting.

    The first part of each pair is whether the text is of a setting.
    """
    text = inspect.getdoc(type(technique)) or ""
    _, _, rest = re.sub(r"(?<=\.)\s", "\0", text, count=1).partition("\0")
    name = "|".join(field.name for field in dataclasses.fields(technique))
    names = rf"(?:{name})(?:, (?:{name}))*"
    for paragraph in filter(None, re.split(r"\n{2,}", rest)):
        for part in re.split(rf"(?:^|(?<=\.)\s)(?={names}: )", paragraph.replace("\n", " ").strip()):
            setting = re.match(rf"({names}): (.*)", part)
            if setting:
                of_which = ", ".join(f"`{one}`" for one in setting[1].split(", "))
                yield True, f"- {of_which}: {setting[2]}"
            elif part:
                yield False, part


def _effects(technique: Technique) -> Iterator[str]:
    if isinstance(technique, Chain):
        effects = [f"- `{one.name}`: {one.EFFECT or _IN_TRAINING.lower()}" for one in technique.steps.values()]
        yield "Every step's:"
        yield "\n".join(effects)
    else:
        unseen = _OF_BASELINE if isinstance(technique, Baseline) else _IN_TRAINING
        yield f"{technique.EFFECT[:1].upper()}{technique.EFFECT[1:]}." if technique.EFFECT else unseen


def _models(reasons: Mapping[str, str]) -> Iterator[str]:
    yield "All models except:" if reasons else "It accepts every model of `conf/model/`."
    if reasons:
        yield "\n".join(f"- `{model}`: {reason}" for model, reason in reasons.items())


def _source(technique: Technique) -> Iterator[str]:
    """The last paragraph of the module's docstring, where it names the source."""
    text = inspect.getdoc(sys.modules[type(technique).__module__]) or ""
    source = re.search(r"^Source: .*", text, re.MULTILINE | re.DOTALL)
    if source:
        yield re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", source[0].replace("\n", " "))


def _linked(text: str, names: Collection[str]) -> str:
    """The text with a link at each name of a technique."""
    return re.sub(r"`(\w+)`", lambda found: f"[{found[0]}]({found[1]}.md)" if found[1] in names else found[0], text)
