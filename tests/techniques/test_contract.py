"""What every technique of conf/technique keeps to, newcomers too.

Each goes through apply, export and verify on a tiny trained network, from its own parent, with the values of its yaml.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from pipelines.cells.cell import describe
from pipelines.cells.compatibility import choices
from pipelines.cells.compose import CONF
from pipelines.models.checkpoint import duplicate
from pipelines.results.folder import CellFiles, Finished
from pipelines.techniques.base import Candidate, Chain, Context, EffectError, Technique
from pipelines.techniques.baseline import Baseline
from tests.conftest import context, exported
from tests.results.test_summary import RESULT

pytestmark = pytest.mark.slow

WORDS = sorted(path.stem for path in (CONF / "technique").glob("*.yaml"))
EPOCHS = 2

Run = Callable[[Technique], tuple[Candidate, Path]]


@pytest.fixture(scope="module")
def techniques() -> dict[str, Technique]:
    """By their words on the command line."""
    return choices(CONF, "technique")


@pytest.fixture(scope="module")
def ran(trained_once: Candidate, exported_baseline: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a technique from its parent, each once: gives its candidate and its exported model.

    A technique without a parent finds the trained network in the place of pretrained weights, a teacher or a donor.
    """
    folder = tmp_path_factory.mktemp("contract")
    done = {key_of(Baseline()): (trained_once, exported_baseline)}
    files = CellFiles(tmp_path_factory.mktemp("trained"))
    trained_once.model.save(files.checkpoint)
    epochs = ({"val_accuracy": 0.1, "seconds": 1.0},)
    finished = Finished(result=dataclasses.replace(RESULT, epochs=epochs), files=files)

    def run(technique: Technique) -> tuple[Candidate, Path]:
        key = key_of(technique)
        if key not in done:
            start = trained_once if technique.parent is None else run(technique.parent)[0]
            it = dataclasses.replace(context(EPOCHS), source=finished, baseline=finished)
            candidate = applied(technique, Candidate(model=duplicate(start.model)), it)
            done[key] = candidate, exported(candidate, folder / f"{len(done)}.tflite")
        return done[key]

    return run


def key_of(technique: Technique) -> str:
    """All its fields, which distinguish techniques in a fingerprint."""
    return json.dumps(describe(technique), sort_keys=True)


def applied(technique: Technique, start: Candidate, it: Context) -> Candidate:
    candidate = technique.apply(start, it)
    names = [layer.name for layer in candidate.model.layers if layer.weights]
    assert names == [layer.name for layer in start.model.layers if layer.weights], "layers keep their names"
    assert all("/" in name and isinstance(value, float) for name, value in candidate.metrics.items())
    return candidate


def promises(technique: Technique) -> bool:
    """Whether the exported model shows what the technique did."""
    if isinstance(technique, Chain):
        return any(promises(step) for step in technique.steps.values())
    return technique.EFFECT is not None


@pytest.mark.parametrize("word", WORDS)
def test_verify_accepts_own_file_and_no_other(word: str, ran: Run, techniques: dict[str, Technique]) -> None:
    technique = techniques[word]
    candidate, exported_model = ran(technique)
    technique.verify(candidate, exported_model)
    if not promises(technique):
        _, plain = ran(Baseline())
        technique.verify(candidate, plain)  # what looks for an effect must name it in EFFECT
        return
    # Neither the file that nothing was done to, nor that of all steps but the last.
    for other in (Baseline(), technique.parent or Baseline()):
        _, without = ran(other)
        with pytest.raises(EffectError):
            technique.verify(candidate, without)


@pytest.mark.parametrize("word", WORDS)
def test_name_and_summary(word: str, techniques: dict[str, Technique]) -> None:
    technique = techniques[word]
    assert technique.name == word, "the yaml's stem is the word on the command line"
    assert technique.summary.endswith((".", "`"))


def test_name_and_effect_must_be_given() -> None:
    with pytest.raises(TypeError, match=r"Nameless\.NAME must be given, got nothing: write for example NAME = "):

        class Nameless(Technique):
            def apply(self, candidate: Candidate, context: Context) -> Candidate:
                return candidate

    with pytest.raises(TypeError, match=r"Careless\.EFFECT must be given, got nothing: write for example EFFECT = "):

        class Careless(Technique):
            NAME: ClassVar[str] = "careless"

            def apply(self, candidate: Candidate, context: Context) -> Candidate:
                return candidate


def test_effect_must_be_verified() -> None:
    with pytest.raises(TypeError, match=r"Boastful\.verify must look for the EFFECT 'gold', got no verify"):

        class Boastful(Baseline):
            EFFECT = "gold"  # type: ignore[assignment]
