"""The table of techniques and models is what the techniques say, and the page in docs/reference is up to date."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.cells.compatibility import Compatibility
from pipelines.commands.run import without_info
from tests.cells.test_config import ROOT, run

CONF = ROOT / "conf"


@pytest.fixture(scope="module")
def shipped() -> Compatibility:
    return Compatibility.of(CONF)


@pytest.mark.slow
def test_every_choice_is_in_the_table(shipped: Compatibility) -> None:
    assert set(shipped.models) == {path.stem for path in (CONF / "model").glob("*.yaml")}
    assert set(shipped.techniques) == {path.stem for path in (CONF / "technique").glob("*.yaml")}


def test_a_refusal_is_the_techniques_own_sentence(shipped: Compatibility) -> None:
    assert "transfer needs pretrained weights" in shipped.reasons["transfer", "small_cnn"]
    assert ("transfer", "resnet50") not in shipped.reasons
    refused = run("technique=transfer")
    assert shipped.reasons["transfer", "small_cnn"] in refused.stderr


@pytest.mark.slow
def test_the_terminal_shows_it_without_tensorflow(shipped: Compatibility) -> None:
    done = run("--info", "compatibility")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == shipped.text().strip()


@pytest.mark.parametrize(
    ("words", "others"),
    [
        ("--info compatibility", []),
        ("--info=compatibility model=vgg16", ["model=vgg16"]),
        ("model=vgg16 --info compatibility seed=1", ["model=vgg16", "seed=1"]),
        ("--info defaults", None),
        ("--info 'compatibility model=vgg16'", None),
        ("'dataset.name=a --info compatibility'", None),
        ("--overrides '--info compatibility'", None),
        ("seed=1 compatibility --info", None),
    ],
)
def test_table_is_asked_for_in_words_of_its_own(words: str, others: list[str] | None) -> None:
    assert without_info(shlex.split(words)) == others


def test_hydras_own_info_still_works() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "run", "--info", "defaults"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0 and "technique/quantize_int8" in done.stdout


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        ("_target_: pipelines.techniques.cluster.Cluster\n", "technique.epochs must be given, got nothing"),
        ("_target_: mine.Cluster\n", "_target_ must be a class that can be imported, got 'mine.Cluster'"),
        ("_target_: [\n", "mine.yaml"),
    ],
)
def test_a_wrong_file_of_ones_own_is_named(tmp_path: Path, yaml: str, sentence: str) -> None:
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf/technique/mine.yaml").write_text(yaml)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}/conf/technique/mine.yaml: ")) as refusal:
        Compatibility.of(tmp_path / "conf")
    assert sentence in str(refusal.value)
