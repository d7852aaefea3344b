"""Whether a documented command has a program, options and a configuration that are there. Nothing is run."""

import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from functools import cache
from importlib.metadata import metadata
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import mlflow.cli
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob

import pipelines.datasets
import pipelines.models
import pipelines.techniques
from pipelines.cells.cell import IncompatibleError
from pipelines.cells.compose import CONF, cell_of
from pipelines.results.files import PROGRAM
from tests.markdown import files, write_files
from tests.places import ROOT

# Programs that are not of this environment.
ELSEWHERE = {"curl", "ray"}


def conf_of(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration, with what the page has its reader write."""
    text = (ROOT / page).read_text()
    if not files(text):
        return CONF
    shutil.copytree(CONF, folder / "conf")
    write_files(text, folder)
    for package in (pipelines.datasets, pipelines.models, pipelines.techniques):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder / package.__name__.replace(".", "/"))])
    return folder / "conf"


def check(command: list[str], conf: Path, written: Collection[str]) -> None:
    """Fail where a command's program, options or configuration are not there. written: files that pages give."""
    if command[:3] == ["python", "-m", "pipelines"]:
        command = ["opscore", *command[3:]]
    match command:
        case ["opscore", "sweep", *words]:
            check_run(["-m", *words], conf)
        case ["opscore", "run", *words]:
            check_run(words, conf)
        case ["opscore", option] if option.startswith("--"):
            help_of(option)
        case ["opscore", word, *_] if "=" in word:
            check_run(command[1:], conf)
        case ["opscore", name, *words]:
            check_words(f"opscore {name}", help_of(name, "--help"), words)
        case ["python", script, *_] if Path(script).name == PROGRAM:
            # `opscore pull` writes it.
            pass
        case ["python", script, *_] if script.endswith(".py"):
            assert script in written, f"no page has the reader write {script}"
        case ["python", "-m", module, *_] | ["python", module, *_]:
            assert find_spec(module) is not None, module
        case ["make", target, *words]:
            assert f"\n{target}:" in (ROOT / "Makefile").read_text(), target
            assert all(re.match(r"[A-Z]+=", word) for word in words), words
        case ["mlflow", "run", ".", *words]:
            check_project(words)
        case ["pip", "install", *words]:
            check_extras(words)
        case ["mlflow", name, *_]:
            assert name in mlflow.cli.cli.commands, f"mlflow has no command {name}"
        case [program, *_]:
            assert program in ELSEWHERE or Path(sys.executable).with_name(program).exists(), f"no program {program}"


def check_extras(words: list[str]) -> None:
    """The extras of this project are there. words: after `pip install`."""
    taken = metadata("opscore").get_all("Provides-Extra") or []
    asked = [extra for word in words if word.startswith(".[") for extra in word[2:-1].split(",")]
    assert {*asked} <= {*taken}, asked


def check_words(name: str, taken: str, words: list[str]) -> None:
    """Each word is one that the help of a command names."""
    # An option's own value is no setting, and a filter's holds `=`.
    values = [
        word
        for option, word in pairwise(words)
        if option == "--filter" or (option.startswith("--") and "=" not in word)
    ]
    for word in [one for one in words if one not in values]:
        known = word.endswith(".tflite") or re.search(rf"(?<![\w.]){re.escape(word.partition('=')[0])}\b", taken)
        assert known, f"{name} does not take {word}"


def check_run(words: list[str], conf: Path) -> None:
    """Every value of a grid composes and makes a cell, or one that a sweep would skip."""
    if {"--info", "--help"} & {*words}:
        return
    if "--cfg" in words:
        # What it shows: `job`, and with --package a group.
        shown = words[words.index("--cfg") + 1 :][: 3 if "--package" in words else 1]
        assert shown[:2] in (["job"], ["job", "--package"]) and all((conf / name).is_dir() for name in shown[2:]), words
        words = [word for word in words if word not in ("--cfg", *shown)]
    if "--config-dir" in words:
        # A folder of the reader's own; the page has what is in it.
        at = words.index("--config-dir")
        words = words[:at] + words[at + 2 :]
    flags = [word for word in words if word.startswith("-")]
    assert set(flags) <= {"-m", "--multirun"}, flags
    # Launchers and sweepers come from packages that need not be there.
    own = [word for word in words if not word.startswith(("-", "hydra"))]
    values = []
    for override in OverridesParser.create().parse_overrides(own):
        key = override.get_key_element()
        swept = override.is_sweep_override()
        assert not swept or flags, f"a grid needs -m: {words}"
        # A pattern's files need not be there.
        if swept and (not override.is_discrete_sweep() or isinstance(override.value(), Glob)):
            continue
        found = override.sweep_string_iterator() if swept else [override.get_value_element_as_str()]
        values.append([f"{key}={value}" for value in found])
    for number in range(max(map(len, values), default=1)):
        with initialize_config_dir(str(conf), version_base="1.3"):
            config = compose("config", [one[number % len(one)] for one in values], return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            try:
                cell_of(config)
            except IncompatibleError:
                assert flags, words


def check_project(words: list[str]) -> None:
    project = yaml.safe_load((ROOT / "MLproject").read_text())
    pairs = list(pairwise(words))
    entry = next((value for option, value in pairs if option == "-e"), "main")
    given = {value.partition("=")[0] for option, value in pairs if option == "-P"}
    assert given <= set(project["entry_points"][entry]["parameters"]), words


@cache
def help_of(*words: str) -> str:
    command = [sys.executable, "-m", "pipelines", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
