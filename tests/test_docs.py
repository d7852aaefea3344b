"""README and docs, typed as they are written."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from pipelines.cells.compose import CONF
from tests.documented import check, conf_of
from tests.markdown import Block, blocks, commands, files, write_files
from tests.places import ROOT, until
from tests.servers import answers, free_port

DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", *DOCS]
BLOCKS = [block for page in PAGES for block in blocks(page, (ROOT / page).read_text())]
WRITTEN = {path for page in PAGES for path in files((ROOT / page).read_text())}
RUN = [block for block in BLOCKS if block.runs]


def test_marks_and_blocks_are_found() -> None:
    text = """
A page.

    make run   # words

    a table 1 2

<!-- test: check only, needs data -->

    python -m pipelines run \\
      "a b"
```bash
opscore
```
<!-- test: check only from here on, long -->
```bash
make ui
```

    mlflow ui
"""
    found = blocks("p.md", text)
    assert [(one.line, one.text, one.runs) for one in found] == [
        (4, "make run   # words\n", True),
        (10, 'python -m pipelines run \\\n  "a b"\n', False),
        (13, "opscore\n", True),
        (17, "make ui\n", False),
        (20, "mlflow ui\n", False),
    ]
    with pytest.raises(ValueError, match=r"p\.md:1: a mark must be"):
        blocks("p.md", "<!-- test: skip -->\n")


def test_files_are_found() -> None:
    page = "A file:\n```yaml\n# conf/model/a.yaml\nb: 1\n```\nNone:\n```python\n# a remark\nc = 1\n```\n"
    assert files(page) == {"conf/model/a.yaml": "b: 1\n"}


@pytest.mark.parametrize(
    "command",
    [
        "opscor run",
        "opscore compare --tehcnique=qat",
        "python -m benchmarks.trainings",
        "make rn",
        "pip install .[measure,openvin]",
        "mlflow model serve",
        "mlflow run . -P modle=vgg16",
    ],
)
def test_command_of_a_wrong_name_is_found(command: str) -> None:
    with pytest.raises(AssertionError):
        check(command.split(), CONF, WRITTEN)


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_commands_are_taken(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command has a program, options and a configuration that are there; nothing is run."""
    conf = conf_of(block.page, tmp_path, monkeypatch)
    for command in commands(block, tmp_path):
        check(command, conf, WRITTEN)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the sources as after `make setup`, where two epochs and brief measurements are the default.

    It has the files that pages have their readers write.
    """
    folder = tmp_path_factory.mktemp("docs") / "my projects" / "op score"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for settings in ("default", "quick"):
        change(folder / f"conf/measurement/{settings}.yaml", {"min_duration_s": 0.05, "min_calls": 10})
    change(folder / "conf/training/default.yaml", {"epochs": 2})
    for page in PAGES:
        write_files((ROOT / page).read_text(), folder)
    environment = folder / ".venv"
    environment.mkdir()
    for path in Path(sys.prefix).iterdir():
        (environment / path.name).symlink_to(path)
    # What `make` takes for a sign that everything is installed.
    for stamp in ("runtime", "dev", "docs", "server"):
        (environment / stamp).unlink(missing_ok=True)
        (environment / stamp).touch()
    yield folder
    shutil.rmtree(folder)


def change(path: Path, values: dict[str, object]) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))


@pytest.mark.slow
@pytest.mark.parametrize("block", RUN, ids=str)
def test_commands_run(block: Block, checkout: Path) -> None:
    """The blocks of a page one after the other, as a reader types them: what one exports or makes, the next finds."""
    state = checkout.parent / f"{block.page.replace('/', '-')}.sh"
    script = f"[ ! -f '{state}' ] || . '{state}'\n{block.text}\ndeclare -px > '{state}'\n"
    inherited = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(checkout.parent)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=checkout,
        # An editable install would lead to another checkout than this one.
        env=inherited | {"PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{block.text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
    assert not (checkout / "mlflow.db").exists(), "a store beside mlruns/"
    untracked = set(done_files(checkout))
    assert not untracked, f"not ignored by git: {untracked}"


@pytest.mark.slow
def test_make_ui_serves_the_store_of_a_folder_with_blanks(checkout: Path) -> None:
    port = free_port()
    inherited = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(checkout)}
    with (checkout.parent / "ui.log").open("w") as log:
        started = subprocess.Popen(
            ["make", "ui", f"PORT={port}"],
            cwd=checkout,
            env=inherited,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        client = MlflowClient(f"http://127.0.0.1:{port}")
        until(lambda: answers(f"http://127.0.0.1:{port}/health") or started.poll() is not None, seconds=180)
        assert "opscore" in [one.name for one in client.search_experiments()]
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def done_files(checkout: Path) -> list[str]:
    """What commands left behind that git would offer for a commit."""
    ignored = (checkout / ".gitignore").read_text().splitlines()
    folders = {line.strip("/") for line in ignored if line.endswith("/")} | {"mlruns"}
    tracked = set(
        subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    )
    tops = {name.partition("/")[0] for name in tracked}
    return [path.name for path in checkout.iterdir() if path.name not in tops | folders]
