"""Every yaml under conf/ composes and instantiates; every mistake gets one sentence, without TensorFlow."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from pipelines.cell import Cell, describe
from pipelines.datasets.base import Dataset
from pipelines.run import CONF, GROUPS, cell_of, expand_overrides
from pipelines.techniques.base import Chain

ROOT = Path(__file__).resolve().parents[1]
NAMED_BY_THEIR_PATH = {"npz", "folder"}
CHOICES = [(group, path.stem) for group in (*GROUPS, "experiment") for path in sorted((CONF / group).glob("*.yaml"))]


def composed(*overrides: str) -> Cell:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"data_dir={ROOT / 'data'}", *overrides])
        return cell_of(config)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; loading TensorFlow there is an error."""
    program = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "import runpy; runpy.run_module('pipelines.run', run_name='__main__', alter_sys=True)"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids=lambda value: value)
def test_every_choice_composes(group: str, choice: str, tmp_path: Path) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        given = [f"{group}={choice}", f"data_dir={tmp_path}"]
        if group == "experiment":
            OmegaConf.to_container(compose("config", given), resolve=False)
            return
        if choice in NAMED_BY_THEIR_PATH:
            given.append(f"dataset.path={tmp_path / 'photos'}")
        part = instantiate(compose("config", given)[group], _convert_="all")
    if group in ("model", "dataset", "technique") and choice not in NAMED_BY_THEIR_PATH:
        assert part.name == choice, "the yaml's stem is the word on the command line"


def test_the_default_is_one_cell() -> None:
    cell = composed()
    assert cell.name == "small_cnn-digits-quantize_int8"
    assert cell.origin is not None and cell.baseline is not None
    assert cell.origin.name == cell.baseline.name == "small_cnn-digits-baseline"


def test_a_chain_starts_from_its_training_step() -> None:
    cell = composed("model=efficientnet_lite0", "technique=transfer_quantize_int8")
    assert isinstance(cell.technique, Chain)
    assert cell.origin is not None and cell.baseline is not None
    assert cell.origin.technique.name == "transfer"
    assert cell.baseline.technique.name == "baseline"


def test_a_longer_chain_goes_on_from_the_shorter_ones_cell() -> None:
    long, short = composed("technique=pcqat"), composed("technique=prune_cluster")
    assert long.origin is not None and short.origin is not None
    assert long.origin.fingerprint(digest_of) == short.fingerprint(digest_of)
    assert short.origin.fingerprint(digest_of) == composed("technique=prune").fingerprint(digest_of)


def test_tensorflow_stays_out_of_help_and_config() -> None:
    for arguments in (["--help"], ["--cfg", "job"]):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
    assert "quantize_int8" in run("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model=resnet51"], "Could not find 'model/resnet51'"),
        (["training.epoch=3"], "Could not override 'training.epoch'"),
        (["training.epochs=0"], "training.epochs must be a whole number of at least 1, got 0"),
        (["training.epochs=many"], "training.epochs must be a whole number of at least 1, got 'many'"),
        (["training.optimizer=lion"], "training.optimizer must be one of adam, sgd, got 'lion'"),
        (["training.learning_rate=-1"], "training.learning_rate must be a number, more than 0, got -1"),
        (["training.mixed_precision=half"], "training.mixed_precision must be one of auto, True, False"),
        (["technique.scheme=int4"], "technique.scheme must be one of"),
        (["technique.calibration_images=0"], "technique.calibration_images must be a whole number of at least 1"),
        (["technique=transfer"], "transfer needs pretrained weights"),
        (["seed=-1"], "seed must be a whole number of at least 0, got -1"),
        (["deterministic=perhaps"], "deterministic must be true or false, got 'perhaps'"),
        (["score.size=-1"], "score.size must be a number, 0 or more, got -1"),
        (["measurement.threads=0"], "measurement.threads must be"),
        (["dataset=npz"], "dataset.path must"),
        (["dataset=npz", "dataset.path=/nowhere/a.npz"], "/nowhere/a.npz"),
        (["dataset.limit_train=3"], "limit_train"),
        (["tracking.uri=http://127.0.0.1:9"], "the MLflow server http://127.0.0.1:9 does not answer"),
        (["tracking.uri=./runs"], "must be a database or a server"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_get_a_sentence(arguments: list[str], sentence: str, tmp_path: Path) -> None:
    done = run(f"hydra.run.dir={tmp_path}", *arguments)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        (["a=1"], ["a=1"]),
        (["a=1", "--overrides", ""], ["a=1"]),
        (["--overrides", "b=x,y 'c=two words' -m"], ["b=x,y", "c=two words", "-m"]),
        (["--overrides"], []),
    ],
)
def test_overrides_arrive_as_one_argument(given: list[str], expanded: list[str]) -> None:
    assert expand_overrides(given) == expanded


def test_description_is_plain_and_complete() -> None:
    described = describe(composed("technique=transfer_quantize_int8", "model=efficientnet_lite0"))
    assert described["technique"]["steps"]["quantize"]["scheme"] == "int8"
    assert described["training"]["epochs"] == 10
    assert described["seed"] == 0


def digest_of(dataset: Dataset) -> str:
    return "0" * 64


DETERMINING = [
    "seed=1",
    "deterministic=true",
    "training.epochs=11",
    "training.batch_size=32",
    "training.optimizer=sgd",
    "training.learning_rate=0.01",
    "training.patience=4",
    "training.mixed_precision=false",
    "model.dropout=0.3",
    "model.input_size=16",
    "model.width=16",
    "technique=quantize_float16",
    "technique.calibration_images=100",
    "dataset.max_shift=1",
    "dataset.horizontal_flip=true",
]
NOT_DETERMINING = ["measurement.threads=2", "score.size=1", "data_dir=/elsewhere", "tracking.experiment=other"]


@pytest.mark.parametrize("override", DETERMINING)
def test_what_changes_a_result_changes_its_fingerprint(override: str) -> None:
    assert composed(override).fingerprint(digest_of) != composed().fingerprint(digest_of)


@pytest.mark.parametrize("override", NOT_DETERMINING)
def test_what_does_not_change_a_result_does_not(override: str) -> None:
    assert composed(override).fingerprint(digest_of) == composed().fingerprint(digest_of)


def test_content_counts_and_not_the_name(tmp_path: Path) -> None:
    assert composed().fingerprint(digest_of) != composed().fingerprint(lambda _: "1" * 64)
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / f"{name}.keras").write_bytes(content)
    prints = {
        name: composed(f"model.weights={tmp_path / name}.keras").fingerprint(digest_of) for name in ("a", "b", "c")
    }
    assert prints["a"] != prints["c"]
    assert prints["a"] == prints["b"]
