"""The table of techniques and models is what the techniques say, and the page in docs/reference is up to date."""

import subprocess
import sys

import pytest

from pipelines.cells.compatibility import Compatibility
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


def test_the_page_is_up_to_date(shipped: Compatibility) -> None:
    assert (ROOT / "docs" / "reference" / "compatibility.md").read_text() == shipped.markdown(), "run `make docs`"


def test_hydras_own_info_still_works() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.run", "--info", "defaults"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0 and "technique/quantize_int8" in done.stdout
