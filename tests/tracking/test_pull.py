"""Pulling a champion, and using the files."""

import hashlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from pipelines.commands.pull import FILES
from pipelines.litert.exported_model import ExportedModel
from pipelines.tracking.registry import Registry
from tests.conftest import small_data
from tests.places import ROOT
from tests.tracking.promotion import ALL, BY, NAME, Command, Copy, compared_metrics

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("technique", ["quantize_int8", "quantize_float16"])
def test_pulled_model_runs_as_its_card_says(
    copy: Copy,
    opscore: Command,
    tmp_path: Path,
    technique: str,
    bare_python: Path,
) -> None:
    opscore("promote", BY.format(technique))
    out = tmp_path / "deep" / "pulled"
    printed = opscore("pull", f"out={out}")
    assert "SHA-256 verified" in printed
    assert {path.name for path in out.iterdir()} == {"model.tflite", "labels.txt", "MODEL_CARD.md", "run.py"}
    assert [path.name for path in out.parent.iterdir()] == ["pulled"]
    run = copy.run(technique)
    digest = hashlib.sha256((out / "model.tflite").read_bytes()).hexdigest()
    card = (out / "MODEL_CARD.md").read_text()
    m = compared_metrics(run, copy.run("baseline"))
    accuracy = f"{m['test/accuracy']:.1%}, 95% interval"
    for text in (digest, run.info.run_id, run.data.tags["hardware"].split(",")[0], accuracy, "limit_train=300",
                 "8 x 8 x 3", "random weights", "nobody else's licence", "240", "latency over the baseline's",
                 f"{m['score/operational']:.1f} dB", copy.versions()["1"]["opscore.data_digest"]):  # fmt: skip
        assert text in card, text
    assert "=None" not in card and "_target_" not in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert code == (out / "run.py").read_text()
    data, _ = small_data()
    for number, image in enumerate(data.test.images[:20]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    names = [f"{number}.png" for number in range(20)]
    command = [str(bare_python), str(out / "run.py"), *names]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    logits = ExportedModel(out / "model.tflite").logits(data.test.images[:20])
    classes = [data.class_names[number] for number in logits.argmax(axis=1)]
    assert shown == [f"{name}: {one}" for name, one in zip(names, classes, strict=True)]


def test_misspelt_champions_are_named(opscore: Command, tmp_path: Path) -> None:
    opscore("promote", BY.format("quantize_int8"))
    out = f"out={tmp_path / 'pulled'}"
    assert "got 'champ': did you mean champion?" in opscore("pull", out, "alias=champ", fails=True)
    dataset = NAME.removeprefix("opscore-")
    other = opscore("pull", out, f"dataset={dataset[:-1]}z", fails=True)
    assert f"did you mean --dataset {dataset}?" in other
    wrong = ["experiment=mine", f"dataset={dataset[:-1]}z"]
    assert f"did you mean dataset={dataset}?" in opscore("compare", *wrong, fails=True)


def test_a_device_that_did_not_measure_it(copy: Copy, opscore: Command, tmp_path: Path) -> None:
    opscore("promote", BY.format("quantize_int8"))
    sentence = opscore("pull", f"out={tmp_path / 'pulled'}", "target=pi", fails=True)
    assert "got 'pi' where there is none: measure it with `opscore measure --target pi --filter" in sentence
    assert not (tmp_path / "pulled").exists()


def test_pulled_program_uses_what_the_champion_was_promoted_for(copy: Copy, opscore: Command, tmp_path: Path) -> None:
    opscore("promote", BY.format("quantize_int8"))
    for name, value in (("opscore.target", "pi"), ("opscore.runtime", "openvino"), ("opscore.threads", "4")):
        copy.client.set_model_version_tag(NAME, "1", name, value)
    told = opscore("pull", f"out={tmp_path / 'pulled'}")
    assert "by openvino with 4 threads, by which it was promoted for pi" in " ".join(told.split())
    assert "openvino" in (tmp_path / "pulled/run.py").read_text()


def test_only_an_earlier_pull_is_overwritten(copy: Copy, opscore: Command, tmp_path: Path) -> None:
    opscore("promote", BY.format("baseline"))
    out = tmp_path / "pulled"
    out.mkdir()
    opscore("pull", f"out={out}")
    before = (out / "model.tflite").read_bytes()
    opscore("promote", BY.format("quantize_int8"))
    opscore("pull", f"out={out}")
    assert (out / "model.tflite").read_bytes() != before
    opscore("pull", f"out={out}", "alias=previous")
    assert (out / "model.tflite").read_bytes() == before
    (out / "notes.txt").write_text("mine")
    assert "got " in (message := opscore("pull", f"out={out}", fails=True)) and "notes.txt" in message
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.tflite").write_text("mine")
    assert "model.tflite" in opscore("pull", f"out={other}", fails=True)
    assert (other / "model.tflite").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    assert "new or empty folder" in opscore("pull", f"out={tmp_path / 'file'}", fails=True)
    assert "got 'best' where there is champion, previous" in opscore(
        "pull", f"out={tmp_path / 'none'}", "alias=best", fails=True
    )
    assert not (tmp_path / "none").exists()


def test_a_tampered_artifact_is_refused(copy: Copy, opscore: Command, tmp_path: Path) -> None:
    opscore("promote", ALL)
    version = Registry(copy.uri).aliased(NAME, "champion")
    assert version is not None
    place = copy.client.get_model_version_download_uri(NAME, version.number).removeprefix("file://")
    (exported_model,) = Path(place).rglob("model.tflite")
    content = exported_model.read_bytes()
    try:
        exported_model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        message = opscore("pull", f"out={tmp_path / 'pulled'}", fails=True)
    finally:
        exported_model.write_bytes(content)
    assert "it is not the one that was promoted" in message and "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_download_that_breaks_off_leaves_nothing_behind(
    copy: Copy, opscore: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opscore("promote", ALL)

    def breaks(self: Registry, name: str, version: object, folder: Path) -> Path:
        (folder / "model.tflite").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Registry, "download", breaks)
    with pytest.raises(SystemExit, match="130"):
        opscore("pull", f"out={tmp_path / 'pulled'}")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no other disk")
def test_pull_onto_another_disk(copy: Copy, opscore: Command, tmp_path: Path) -> None:
    # No file moves there from its parent folder in one step, as with a mount point.
    opscore("promote", ALL)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        (tmp_path / "pulled").symlink_to(other)
        opscore("pull", f"out={tmp_path / 'pulled'}")
        assert sorted(path.name for path in Path(other).iterdir()) == sorted(FILES)


def test_the_commands_themselves_without_tensorflow(copy: Copy, tmp_path: Path) -> None:
    for package in ("tensorflow", "tf_keras"):
        (tmp_path / "stubs" / package).mkdir(parents=True)
        (tmp_path / "stubs" / package / "__init__.py").write_text("raise SystemExit('TensorFlow was imported')")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment |= {
        "MLFLOW_TRACKING_URI": copy.uri,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "stubs"), str(ROOT)]),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    done = run("pipelines", "promote", "dataset=digits", "experiment=mine", "--dry-run")
    assert done.returncode == 1 and "different profiles" in done.stderr and "Traceback" not in done.stderr
    done = run("pipelines", "promote", "dataset=digits", "experiment=mine", ALL)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    done = run("pipelines", "pull", "dataset=digits")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert (tmp_path / NAME / "labels.txt").read_text().split() == [str(digit) for digit in range(10)]
