"""Every yaml under conf/ composes and instantiates; every mistake gets one sentence, without TensorFlow."""

import copy
import dataclasses
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from pipelines.cells.cell import Cell, IncompatibleError, describe
from pipelines.cells.compose import CONF, GROUPS, cell_of
from pipelines.cells.plan import Plan
from pipelines.datasets.base import Dataset
from pipelines.execution.overrides import expand
from pipelines.techniques.base import Chain, Technique
from pipelines.techniques.fine_tuning import FineTuning

ROOT = Path(__file__).resolve().parents[2]
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
        "import runpy; runpy.run_module('pipelines', run_name='__main__', alter_sys=True)"
    )
    return subprocess.run(
        [sys.executable, "-c", program, "run", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
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
        if choice == "tfds":
            given.append(f"dataset.name={choice}")
        part = instantiate(compose("config", given)[group], _convert_="all")
    if group in ("model", "dataset", "technique") and choice not in NAMED_BY_THEIR_PATH:
        assert part.name == choice, "the yaml's stem is the word on the command line"


STUDIES = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def headers(study: str) -> list[list[str]]:
    """The words of each command in the comment at the top of a study's file."""
    comment = re.sub(r"\\\n# +", "", (CONF / "experiment" / f"{study}.yaml").read_text())
    commands = re.findall(r"^# +opscore (?:sweep|run) (.*?)(?:   .*)?$", comment, re.MULTILINE)
    return [shlex.split(re.sub(r"<[^>]*>", "/data", command)) for command in commands]


@pytest.mark.parametrize("study", STUDIES)
def test_cells_of_every_study_compose(study: str) -> None:
    """Those of its own grid, and of the commands that its file offers."""
    assert [f"experiment={study}"] in [words[:1] for words in headers(study)]
    for words in headers(study):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            params = compose("config", words[:1], return_hydra_config=True).hydra.sweeper.params or {}
        given = dict(word.split("=", 1) for word in words[1:])
        axes = [[f"{key}={value}" for value in text.split(",")] for key, text in (dict(params) | given).items()]
        for number in range(max(map(len, axes))):
            with suppress(IncompatibleError):
                composed(*words[:1], *(axis[number % len(axis)].strip() for axis in axes))


@pytest.mark.parametrize("study", ["article", "paper"])
def test_donor_of_a_study_is_its_own_baseline(study: str) -> None:
    by_donor = [words for words in headers(study) if "technique=layer_transfer" in words]
    assert len(by_donor) >= 2
    for words in by_donor:
        cell = composed(*words, *([] if any(one.startswith("model=") for one in words) else ["model=vgg16"]))
        source = cell.technique.source_cell
        assert source is not None and cell.source is not None
        own = [f"model={source.model.name}"] if source.model else ["model=vgg16"]
        own += [f"dataset={source.dataset.name}"] if source.dataset else []
        assert cell.source == composed(f"experiment={study}", "data_dir=/data", "technique=baseline", *own)


def test_the_default_is_one_cell() -> None:
    cell = composed()
    assert cell.name == "small_cnn-digits-quantize_int8"
    assert cell.parent is not None and cell.baseline is not None
    assert cell.parent.name == cell.baseline.name == "small_cnn-digits-baseline"


def test_a_chain_starts_from_its_training_step() -> None:
    cell = composed("model=efficientnet_lite0", "technique=transfer_quantize_int8")
    assert isinstance(cell.technique, Chain)
    assert cell.parent is not None and cell.baseline is not None
    assert cell.parent.technique.name == "transfer"
    assert cell.baseline.technique.name == "baseline"


def test_longer_chain_starts_from_shorter_chains_cell() -> None:
    long, short = composed("technique=pcqat"), composed("technique=prune_cluster")
    assert long.parent is not None and short.parent is not None
    assert fingerprint(long.parent) == fingerprint(short)
    assert fingerprint(short.parent) == fingerprint(composed("technique=prune"))


def epochs_of(technique: Technique) -> int | None:
    assert isinstance(technique, FineTuning)
    return technique.epochs


def test_epochs_of_fine_tuning_leave_the_baseline_alone() -> None:
    plain, few = composed("technique=cqat"), composed("technique=cqat", "training.fine_tuning_epochs=3")
    assert isinstance(few.technique, Chain)
    assert [epochs_of(step) for step in few.technique.steps.values()] == [3, 3]
    own = composed("technique=cluster", "training.fine_tuning_epochs=3", "technique.epochs=2")
    assert epochs_of(own.technique) == 2
    assert fingerprint(few) != fingerprint(plain)
    assert few.baseline is not None and plain.baseline is not None
    assert fingerprint(few.baseline) == fingerprint(plain.baseline)
    assert fingerprint(few) == fingerprint(
        composed("technique=cqat", "technique.steps.cluster.epochs=3", "technique.steps.qat.epochs=3")
    )


@pytest.mark.slow
def test_tensorflow_stays_out_of_help_and_config() -> None:
    for arguments in (["--help"], ["--cfg", "job"]):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
    assert "quantize_int8" in run("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model=resnet51"], "got 'resnet51': did you mean model=resnet50?"),
        (["experiment=mine"], "got 'mine': for MLflow's experiment write tracking.experiment=mine"),
        (["training.epoch=3"], "training.epoch is no field of training"),
        (["training.epochs=0"], "training.epochs must be a whole number of at least 1, got 0"),
        (["training.fine_tuning_epochs=0"], "training.fine_tuning_epochs must be a whole number of at least 1, got 0"),
        (["training.epochs=many"], "training.epochs must be a whole number of at least 1, got 'many'"),
        (["training.optimizer=lion"], "training.optimizer must be one of adam, sgd, got 'lion'"),
        (["training.learning_rate=-1"], "training.learning_rate must be a number, more than 0, got -1"),
        (["training.warmup_fraction=1"], "training.warmup_fraction must be a fraction in [0, 1), got 1"),
        (["training.mixed_precision=half"], "training.mixed_precision must be one of auto, true, false"),
        (["technique.scheme=int4"], "technique.scheme must be one of"),
        (["technique.calibration_images=0"], "technique.calibration_images must be a whole number of at least 1"),
        (
            ["technique=prune_quantize_int8", "technique.steps.prune.sparsity=2"],
            "technique.steps.prune.sparsity must be a fraction in (0, 1), got 2: set for example "
            "technique.steps.prune.sparsity=0.02",
        ),
        (
            ["technique=distill", "model@technique.source.model=small_cnn", "technique.source.model.width=0"],
            "technique.source.model.width must be a whole number of at least 1, got 0: set for example "
            "technique.source.model.width=1",
        ),
        (
            ["technique=distill_quantize_int8"],
            "technique.steps.distill.source must name a cell by its model, its dataset or both, or else by its uri, "
            "got none of them: for example model@technique.steps.distill.source.model=vgg16",
        ),
        (
            ["technique=baseline", "technique._target_=tests.own_faults.Unchecked"],
            "unexpected keyword argument 'above', in ",
        ),
        (["technique=transfer"], "transfer needs pretrained weights"),
        (["seed=-1"], "seed must be a whole number of at least 0, got -1"),
        (["seed=20261128123456"], "seed must be below 4294967296 (2**32), got 20261128123456"),
        (["deterministic=perhaps"], "deterministic must be true or false, got 'perhaps'"),
        (
            ["technique=baseline", "technique._target_=pipelines.results.on_device.OnDevice"],
            "technique",
        ),
        (["score.size=-1"], "score.size must be a number, 0 or more, got -1"),
        (["measurement.threads=0"], "measurement.threads must be"),
        (["dataset=npz"], "dataset.path must"),
        (["dataset=npz", "dataset.path=/nowhere/a.npz"], "/nowhere/a.npz"),
        (["dataset.limit_train=3"], "limit_train"),
        (["tracking.uri=http://127.0.0.1:9"], "the MLflow server http://127.0.0.1:9 does not answer"),
        (["tracking.uri=./runs"], "must be a database (sqlite:"),
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
    assert expand(given) == expanded


def test_description_is_plain_and_complete() -> None:
    described = describe(composed("technique=transfer_quantize_int8", "model=efficientnet_lite0"))
    assert described["technique"]["steps"]["quantize"]["scheme"] == "int8"
    assert described["training"]["epochs"] == 10
    assert described["seed"] == 0


def digest_of(dataset: Dataset) -> str:
    return "0" * 64


def fingerprint(cell: Cell) -> str:
    return Plan.of(cell, digest_of).fingerprint


# Paths do not count, and neither measurement nor score changes the exported model.
ONLY_A_PLACE = (
    "dataset.data_dir",
    "dataset.source_dir",
    "dataset.path",
    "dataset.name",
    "model.name",
    "measurement.timeout_s",
)
FILES = ("weights", "model.path", "model.class_names", "model.custom_objects")
ONLY_IN_THE_RESULT_KEY = ("measurement.", "score.")


def fields_of(part: object, path: str) -> Iterator[str]:
    """Dotted paths of all leaves of nested dataclasses and mappings."""
    if dataclasses.is_dataclass(part):
        children = {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    elif isinstance(part, Mapping):
        children = dict(part)
    else:
        yield path
        return
    for name, child in children.items():
        yield from fields_of(child, f"{path}.{name}" if path else name)


def changed(part: Any, path: str) -> Any:
    """A copy with another value at `path`, past the checks: all that counts here is that it is another."""
    name, _, rest = path.partition(".")
    if isinstance(part, Mapping):
        return {**part, name: changed(part[name], rest)}
    other = copy.copy(part)
    old = getattr(part, name)
    object.__setattr__(other, name, changed(old, rest) if rest else another(old))
    return other


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else value * 0.5 + 0.01
    return f"other than {value}"


def every_cell(tmp_path: Path) -> Iterator[tuple[str, Cell]]:
    """The group that is gone through, and a cell with each of its choices."""
    yield "", composed()
    for group in ("model", "dataset", "technique"):
        for path in sorted((CONF / group).glob("*.yaml")):
            given = [f"{group}={path.stem}"]
            if group == "dataset" and path.stem in NAMED_BY_THEIR_PATH:
                given.append(f"dataset.path={tmp_path}")
            if path.stem == "tfds":
                given.append("dataset.name=mnist")
            if path.stem == "keras_file":
                (tmp_path / "a.keras").touch()
                given += [f"model.path={tmp_path / 'a.keras'}", "model.trained_s=1"]
            if group == "technique":
                given.append("model=efficientnet_lite0")
            if path.stem.startswith("distill"):
                steps = ".steps.distill" if "_" in path.stem else ""
                given.append(f"model@technique{steps}.source.model=vgg16")
            if path.stem == "layer_transfer":
                given.append("model@technique.source.model=vgg16")
            yield group, composed(*given)


def content_of(dataset: Dataset) -> str:
    """Other limits and splits give other images; the place of the files and what they are called do not."""
    return str(
        [item for item in describe(dataset).items() if item[0] not in ("data_dir", "source_dir", "path", "name")]
    )


@pytest.mark.slow
def test_fingerprint_holds_every_field_that_matters(tmp_path: Path) -> None:
    seen: set[str] = set()
    for group, cell in every_cell(tmp_path):
        plan = Plan.of(cell, content_of)
        before = plan.fingerprint, plan.result_key
        for path in fields_of(cell, ""):
            # A file counts by its content, as the next test shows; an open part of a source is the cell's own; half
            # precision counts by what a cell computes in (tests/training/test_precision.py), and epochs of fine-tuning
            # where a technique takes them.
            named = ("source.uri", "source.model", "source.dataset")
            elsewhere = (*FILES, *named, "training.mixed_precision", "training.fine_tuning_epochs")
            if not path.startswith(group) or path.endswith(elsewhere):
                continue
            seen.add(path)
            other = changed(cell, path)
            plan = Plan.of(other, content_of)
            fingerprint_, key = plan.fingerprint, plan.result_key
            place = path.endswith(ONLY_A_PLACE)
            assert (key != before[1]) is not place, f"{cell.name}: {path}"
            matters = not place and not path.startswith(ONLY_IN_THE_RESULT_KEY)
            assert (fingerprint_ != before[0]) is matters, f"{cell.name}: {path}"
    # All groups were gone through, chains and sources too.
    assert {"seed", "deterministic", "training.epochs", "model.input_size", "dataset.limit_train", "score.size"} <= seen
    assert {"measurement.min_calls", "technique.steps.prune.sparsity", "technique.source.model.dropout"} <= seen


def test_learning_rate_counts_whoever_sets_it() -> None:
    own, named = (
        composed("model=vgg16", "model.weights=null", *rate) for rate in ([], ["training.learning_rate=3e-4"])
    )
    assert (own.learning_rate, composed().learning_rate) == (3e-4, 1e-3)
    assert composed("model=vgg16", "model.weights=imagenet").learning_rate == 1e-4
    assert fingerprint(own) == fingerprint(named)
    other = composed("model=vgg16", "model.weights=null", "training.learning_rate=1e-3")
    assert fingerprint(other) != fingerprint(own)
    # A teacher is trained at its own rate, and is the baseline that its network has anyway.
    student = composed("technique=distill", "model@technique.source.model=vgg16", "technique.source.model.weights=null")
    assert student.source is not None
    teacher = composed("model=vgg16", "model.weights=null", "technique=baseline")
    assert fingerprint(student.source) == fingerprint(teacher)


def test_fingerprint_ignores_where_a_cell_is_recorded() -> None:
    for override in (
        *("tracking.experiment=other", "sweep.threads=1", "resume=false", "data_dir=/elsewhere"),
        "measurement.timeout_s=3600",
    ):
        assert Plan.of(composed(override), digest_of).result_key == Plan.of(composed(), digest_of).result_key


def test_version_of_litert_counts_where_it_has_an_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.system import runtime

    cells = [composed(f"technique={name}") for name in ("baseline", "quantize_int8")]
    before = [Plan.of(cell, digest_of) for cell in cells]
    versions = runtime.versions() | {"ai-edge-litert": "9.9"}
    monkeypatch.setattr(runtime, "versions", lambda: versions)
    after = [Plan.of(cell, digest_of) for cell in cells]
    changed_ = [
        (one.fingerprint != two.fingerprint, one.result_key != two.result_key)
        for one, two in zip(before, after, strict=True)
    ]
    # The baseline is trained by TensorFlow, and timed by LiteRT.
    assert changed_ == [(False, True), (True, True)]


def test_content_counts_and_not_the_name(tmp_path: Path) -> None:
    assert fingerprint(composed()) != Plan.of(composed(), lambda _: "1" * 64).fingerprint
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / f"{name}.keras").write_bytes(content)
    prints = {name: fingerprint(composed(f"model.weights={tmp_path / name}.keras")) for name in ("a", "b", "c")}
    assert prints["a"] != prints["c"]
    assert prints["a"] == prints["b"]
