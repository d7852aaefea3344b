"""opscore installed without its checkout: a wheel in an environment of its own."""

import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT, SMALL

pytestmark = pytest.mark.slow


def said(*command: str | Path, cwd: Path) -> str:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "TF_", "PYTHON"))}
    done = subprocess.run(command, cwd=cwd, env=inherited, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has opscore's wheel, and all else from the present one."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "my source"
    for name in subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv is not None
    said(uv, "build", "--wheel", "--no-build-isolation", "--python", sys.executable, "-o", folder, source, cwd=folder)
    shutil.rmtree(source)
    said(uv, "venv", "--python", sys.executable, folder / "venv", cwd=folder)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    # Found after its own packages, and without the present environment's own .pth files: opscore itself is not found.
    (packages / "present.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    said(uv, "pip", "install", "--no-deps", "--offline", "--python", python, wheel, cwd=folder)
    return python.parent


def test_cell_and_readers_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    here = tmp_path / "my study"
    here.mkdir()
    config = said(installed / "opscore", "technique=prune_cluster", "--cfg", "job", cwd=here)
    assert "_target_: pipelines.techniques.base.Chain" in config
    tiny = ["measurement=quick", *SMALL, "training.epochs=1", "technique=quantize_dynamic"]
    shown = said(installed / "opscore", "run", *tiny, cwd=here)
    (database,) = here.rglob("mlflow.db")
    assert database == here / "mlruns" / "mlflow.db"
    assert f"mlflow ui --backend-store-uri 'sqlite:///{database}'" in shown
    assert re.search(rf"files +{re.escape(str(here))}/outputs/", shown)
    assert {path.name for path in here.iterdir()} <= {"mlruns", "outputs"}
    compared = said(installed / "opscore", "compare", "--dataset", "digits", cwd=here)
    assert "quantize_dynamic" in compared
    assert compared == said(installed / "python", "-m", "pipelines", "compare", "dataset=digits", cwd=here)
    said(installed / "python", "-m", "pipelines", "report", "out=report", cwd=here)
    assert list((here / "report").rglob("*.html"))
    plugins = said(installed / "opscore", "hydra/sweeper=pareto", "--info", "plugins", cwd=here)
    assert "ParetoSweeper" in plugins


def test_wheel_is_marked_as_typed(installed: Path) -> None:
    (packages,) = installed.parent.glob("lib/python*/site-packages")
    assert (packages / "pipelines" / "py.typed").is_file()


def test_refusals_of_the_program_are_one_sentence(installed: Path, tmp_path: Path) -> None:
    for words in (["comapre"], ["compare", "--datset", "digits"], ["compare", "--tracking-uri", "sqlite:////no/db"]):
        done = subprocess.run(
            [installed / "opscore", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
