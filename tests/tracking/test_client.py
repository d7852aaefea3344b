"""The store of champions and claims is the tracking store, whatever one shell says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT, called, child_environment, empty_database

CLAIM = """
import sys
from pipelines.tracking.claims import Claims
from pipelines.tracking.client import connected
with Claims(connected(sys.argv[1])).held("abc") as held:
    print(held, [one.name for one in connected(sys.argv[1]).search_prompts()])
"""


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{shutil.copy(empty_database(), tmp_path_factory.mktemp('store'))}"


def output_of(*arguments: str, elsewhere: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "TF_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=inherited | {"MLFLOW_REGISTRY_URI": elsewhere},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_claims_are_in_the_tracking_store(uri: str, tmp_path: Path) -> None:
    other = tmp_path / "registry.db"
    done = output_of("-c", CLAIM, uri, elsewhere=f"sqlite:///{other}")
    assert done.stdout == "True ['opscore-claim-abc-0']\n", done.stderr
    assert not other.exists()
    assert done.stderr.count("is not used: champions and claims are kept in the tracking store") == 1


@pytest.mark.slow
def test_unused_registry_is_reported(uri: str, tmp_path: Path) -> None:
    words = ["pipelines", "pull", "dataset=digits", f"tracking.uri={uri}", f"out={tmp_path / 'out'}"]
    variables = child_environment(uri)
    del variables["MLFLOW_TRACKING_URI"]
    elsewhere = {"MLFLOW_REGISTRY_URI": "http://me:secret@elsewhere:5000"}
    done = called(*words, cwd=tmp_path, variables=variables | elsewhere)
    notice, refusal = done.stderr.splitlines()
    assert notice.startswith("opscore: MLFLOW_REGISTRY_URI=http://elsewhere:5000 is not used: champions")
    assert uri in notice and notice.endswith("`unset MLFLOW_REGISTRY_URI` before you serve one with mlflow")
    assert "where there is none" in refusal and done.returncode == 1
    # The same store written in another way is no other.
    same = called(*words, cwd=tmp_path, variables=variables | {"MLFLOW_REGISTRY_URI": uri})
    assert "not used" not in same.stderr and "where there is none" in same.stderr
