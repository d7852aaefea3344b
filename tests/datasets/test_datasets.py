import json
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from pipelines.datasets.cifar import Cifar
from pipelines.datasets.digits import Digits
from pipelines.datasets.folder import Folder
from pipelines.datasets.npz import Npz
from tests.datasets.tiny import tiny, write

ROOT = Path(__file__).parents[2]
YAMLS = sorted((ROOT / "conf" / "dataset").glob("*.yaml"))


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "tiny.npz", tiny())


# --- fields and yaml files ---

SHARED_FIELDS = {
    "validation_fraction": 1.0,
    "split_seed": -1,
    "limit_train": 0,
    "limit_test": 2.5,
    "horizontal_flip": 1,
    "max_shift": -1,
}


@pytest.mark.parametrize(("name", "value"), SHARED_FIELDS.items())
def test_bad_shared_field_is_named(name, value):
    with pytest.raises(ValueError, match=rf"^dataset\.{name} must .*got {value!r}: set "):
        Digits(**{name: value})


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: Npz(path=None),  # type: ignore[arg-type]
            r"^dataset.path must name an .npz file, got None: set for example dataset.path=photos.npz$",
        ),
        (
            lambda: Folder(path=None, image_size=8),  # type: ignore[arg-type]
            r"^dataset.path must name a folder of images, got None: set for example dataset.path=photos$",
        ),
        (lambda: Folder(path="x", image_size=7), r"^dataset.image_size must .* 8, got 7"),
        (lambda: Folder(path="x", image_size=8, test_fraction=0), r"^dataset.test_fraction must .*got 0:"),
        (lambda: Digits(test_fraction=1), r"^dataset.test_fraction must .*got 1:"),
    ],
)
def test_bad_own_field_is_named(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()


def test_file_locations_do_not_change_the_fingerprint():
    places = (
        (Npz, {"path", "test_fraction"}),
        (Folder, {"path", "test_fraction"}),
        (Cifar, {"data_dir", "url", "sha256"}),
    )
    for dataset, names in places:
        assert {f.name for f in fields(dataset) if f.metadata.get("fingerprint") is False} == names | {"name"}


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_yaml_names_every_field(path):
    config = OmegaConf.create({"data_dir": "data", "dataset": OmegaConf.load(path)})
    # Which files, or which dataset of a library, only the user can say.
    given = {"path": f"data/{path.stem}"} if config.dataset.get("path", "") is None else {}
    given |= {"name": path.stem} if path.stem == "tfds" else {}
    dataset = instantiate(config.dataset, **given)
    assert dataset.name == path.stem
    assert set(config.dataset) == {f.name for f in fields(dataset)} | {"_target_"}


# --- digits ---


def test_digits_are_real():
    from sklearn.datasets import load_digits

    Digits().preflight()
    data = Digits().load()
    assert (len(data.train), len(data.validation), len(data.test)) == (1294, 144, 359)  # 1797 = 1438 + 359
    assert data.image_shape == (8, 8, 3)
    assert data.class_names == tuple("0123456789")
    assert min(Counter(data.validation.labels.tolist()).values()) >= 14
    everything = np.concatenate([s.images for s in (data.train, data.validation, data.test)])
    grey = everything[..., 0]
    assert (everything == grey[..., None]).all()
    # 0, 1, 8 and 16 of the source are 0, 15.9, 127.5 and 255 of 255.
    assert {0, 16, 128, 255} <= set(np.unique(grey).tolist())
    source = Counter(np.rint(ink * 255 / 16).astype(np.uint8).tobytes() for ink in load_digits().images)
    assert Counter(image.tobytes() for image in grey) == source


def test_digits_seed_decides_the_test_split():
    first, other = Digits().load(), Digits(split_seed=1).load()
    pixels = [{image.tobytes() for image in data.test.images} for data in (first, other)]
    assert pixels[0] != pixels[1]


# --- what preflight costs ---


def test_preflight_imports_nothing_heavy(tmp_path, file):
    for name in ("ant.png", "bee.JPG"):
        folder = tmp_path / "images" / name[:3]
        folder.mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (8, 8)).save(folder / f"{number}{name}")
    write(tmp_path / "cifar10.npz", tiny())
    program = f"""
import json, sys
from pipelines.datasets import cifar, digits, folder, npz
digits.Digits().preflight()
npz.Npz(path={str(file)!r}).preflight()
cifar.Cifar(classes=10, data_dir={str(tmp_path)!r}).preflight()
folder.Folder(path={str(tmp_path / "images")!r}, image_size=8, validation_fraction=0.3).preflight()
folder.Folder(path={str(tmp_path / "images")!r}, image_size=8, validation_fraction=0.3).load()
print(json.dumps(sorted({{"tensorflow", "tf_keras", "sklearn"}} & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
