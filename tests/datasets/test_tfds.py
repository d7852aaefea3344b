"""dataset=tfds on a dataset that is built here, through the command."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipelines.datasets import tfds
from pipelines.datasets.tfds import Tfds
from tests.places import ROOT, Place

pytestmark = pytest.mark.slow

pytest.importorskip("tensorflow_datasets")

# Real digits as datasets of tensorflow-datasets, each of a kind in a folder of that name.
KINDS = ("even", "sizes", "empty", "array_record")
BUILD = """
import sys
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

class InkDigits(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        image = tfds.features.Image(shape=(None, None, 1))
        label = tfds.features.ClassLabel(num_classes=12 if kind == "empty" else 10)
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))
    def _split_generators(self, manager):
        return {"train": self._generate_examples(0, 600), "test": self._generate_examples(600, 800)}
    def _generate_examples(self, start, stop):
        digits = load_digits()
        for number in range(start, stop):
            ink = (digits.images[number, :, :, None] * 15).astype("uint8")
            odd = kind == "sizes" and number % 2
            # No image is of the classes 0 and 11.
            label = int(digits.target[number]) + (kind == "empty")
            yield number, {"image": ink[:6] if odd else ink, "label": label}

for kind in sys.argv[2:]:
    file_format = "array_record" if kind == "array_record" else None
    InkDigits(data_dir=f"{sys.argv[1]}/{kind}", file_format=file_format).download_and_prepare()
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all kinds; tensorflow-datasets takes seconds to load."""
    folder = tmp_path_factory.mktemp("built")
    subprocess.run([sys.executable, "-c", BUILD, str(folder), *KINDS], check=True, capture_output=True, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def even(built: Path) -> Path:
    return built / "even"


def test_command_trains_on_a_prepared_dataset(tmp_path: Path, even: Path) -> None:
    place = Place(tmp_path)
    done = place.run("dataset=tfds", "dataset.name=ink_digits", f"dataset.source_dir={even}", "technique=baseline")
    assert done.returncode == 0, done.stdout + done.stderr
    output = re.sub(r"\s+", " ", done.stdout)
    assert "ink_digits: 240 training, 60 validation and 100 test images of 8x8 pixels, 10 classes: 0, 1" in output
    assert "grey images were repeated over three channels" in output
    (run,) = place.cells()
    assert run.data.metrics["test/accuracy"] > 0.3


def test_images_of_several_sizes_need_one(built: Path) -> None:
    folder = built / "sizes"
    with pytest.raises(
        ValueError, match=r"dataset.image_size must be set .* of 2 sizes: set for example dataset.image_size"
    ):
        Tfds(name="ink_digits", source_dir=str(folder)).load()
    data = Tfds(name="ink_digits", source_dir=str(folder), image_size=16).load()
    assert data.image_shape == (16, 16, 3)
    assert len(data.test) == 200


def test_classes_without_images_are_left_out(built: Path, even: Path) -> None:
    data = Tfds(name="ink_digits", source_dir=str(built / "empty")).load()
    assert data.class_names == tuple(map(str, range(1, 11)))
    assert "ink_digits: 2 of 12 classes have no images and were left out: 0, 11" in data.notes
    all_used = Tfds(name="ink_digits", source_dir=str(even)).load()
    assert (data.test.labels == all_used.test.labels).all() and (data.test.images == all_used.test.images).all()


def test_array_records_are_read_and_damage_is_one_sentence(tmp_path: Path, built: Path) -> None:
    folder = built / "array_record"
    assert len(Tfds(name="ink_digits", source_dir=str(folder)).load().test) == 200
    for file in folder.rglob("*.array_record*"):
        file.write_bytes(b"no records")
    place = Place(tmp_path)
    done = place.run("dataset=tfds", "dataset.name=ink_digits", f"dataset.source_dir={folder}", "technique=baseline")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search("opscore: dataset.name=ink_digits must be readable, got .*; delete its folder in ", done.stderr)


def test_imports_of_a_dataset_builder_are_installed() -> None:
    program = "import tensorflow_datasets as tfds; print(tfds.builder_cls('mnist').code_path)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"name": "mnits"},
            r"^dataset.name must be a dataset of tensorflow-datasets, .* got 'mnits': did you mean mnist\?$",
        ),
        ({"name": ""}, r"^dataset.name must name a dataset of tensorflow-datasets, got null: set dataset.name=mnist$"),
        ({"name": "a/b:1.0.0"}, r"got 'a/b:1.0.0': set dataset.name=a dataset.config=b dataset.version=1.0.0$"),
    ],
)
def test_wrong_names_are_one_sentence(tmp_path: Path, settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Tfds(**settings, source_dir=str(tmp_path)).load()  # type: ignore[arg-type]


def test_missing_library_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a grid counts as such, and goes on."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"^dataset=tfds must have tensorflow-datasets, .*: pip install 'opscore\[tfds"
    ):
        Tfds(name="mnist").preflight()


def test_reader_that_runs_out_of_memory_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system kills it, as this one kills itself."""
    (tmp_path / "killed.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(tfds, "READER", "killed")
    with pytest.raises(ValueError, match=r"dataset.name=food101 must fit into memory, .*dataset.image_size=64$"):
        Tfds(name="food101", validation_fraction=0.1).load()


def test_full_disk_is_reported(even: Path) -> None:
    """Not as a damaged dataset, which would be downloaded again."""
    request = {"name": "ink_digits", "data_dir": str(even), "image_size": 64}
    limited = 'ulimit -f 100; exec "$@"'
    with tempfile.TemporaryDirectory() as folder:
        request |= {"file": f"{folder}/ink/all.npz"}
        Path(folder, "ink").mkdir()
        command = ["bash", "-c", limited, "bash", sys.executable, "-m", tfds.READER, json.dumps(request)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.returncode == 1, done.stdout + done.stderr
        sentence = (
            f"dataset.name=ink_digits must fit into {folder}, got .*File too large.*: set TMPDIR to a folder with"
        )
        assert re.match(sentence, done.stdout.splitlines()[-1])
