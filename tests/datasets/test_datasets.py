import json
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from pipelines.datasets import base
from pipelines.datasets.cifar import Cifar
from pipelines.datasets.digits import Digits
from pipelines.datasets.folder import Folder
from pipelines.datasets.npz import Npz

ROOT = Path(__file__).parents[2]
YAMLS = sorted((ROOT / "conf" / "dataset").glob("*.yaml"))


def tiny() -> dict[str, np.ndarray]:
    """Three classes; every pixel of image k is k, and the k of training and testing differ."""
    train, test = np.arange(30, dtype=np.uint8), np.arange(100, 112, dtype=np.uint8)
    return {
        "x_train": np.broadcast_to(train[:, None, None, None], (30, 4, 4, 3)).copy(),
        "y_train": train % 3,
        "x_test": np.broadcast_to(test[:, None, None, None], (12, 4, 4, 3)).copy(),
        "y_test": test % 3,
        "class_names": np.array(["bee", "cat", "dog"]),
    }


def write(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def numbers(split: base.Split) -> list[int]:
    return split.images[:, 0, 0, 0].tolist()


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "tiny.npz", tiny())


# --- sharing places among classes, by hand ---


@pytest.mark.parametrize(
    ("counts", "size", "leave", "expected"),
    [
        ([5, 3, 2], 5, 0, [3, 1, 1]),  # quotas 2.5, 1.5, 1
        ([10, 20, 30], 7, 0, [1, 2, 4]),  # quotas 1.17, 2.33, 3.5
        ([100, 2, 2], 4, 0, [2, 1, 1]),  # quotas 3.85, 0.08, 0.08, but one each
        ([4, 4], 6, 1, [3, 3]),
        ([10, 2], 9, 1, [8, 1]),  # quotas 7.5, 1.5, but one of the second must stay
        ([5, 3, 2], 10, 0, [5, 3, 2]),
    ],
)
def test_places_are_shared_by_largest_remainder(counts, size, leave, expected):
    labels = np.repeat(np.arange(len(counts)), counts)
    drawn = base._draw(labels, size, seed=0, leave=leave)
    assert np.bincount(labels[drawn]).tolist() == expected
    assert len(set(drawn.tolist())) == size


@pytest.mark.parametrize(
    ("labels", "fraction", "sentence"),
    [
        (
            [0, 0, 1, 1, 2, 2, 2],
            0.1,
            "f must give each part an image of each of the 3 classes, got 0.1 of 7 images, which is 1: "
            "set f=0.429, or up to 0.571",
        ),
        (
            [0, 0, 0, 1],
            0.5,
            "a class must have at least 2 images to be split by f, got 1 of class number 1: use more images of it",
        ),
    ],
)
def test_impossible_split_is_refused(labels, fraction, sentence):
    with pytest.raises(ValueError) as caught:
        base.stratified_split(np.array(labels), fraction, seed=0, field="f")
    assert str(caught.value) == sentence


# --- splits ---


def test_splits_are_disjoint_complete_and_stratified(file):
    data = Npz(path=str(file), validation_fraction=0.2).load()
    train, validation = numbers(data.train), numbers(data.validation)
    assert sorted(train + validation) == list(range(30))
    assert Counter(data.validation.labels.tolist()) == {0: 2, 1: 2, 2: 2}
    assert Counter(data.train.labels.tolist()) == {0: 8, 1: 8, 2: 8}
    assert sorted(numbers(data.test)) == list(range(100, 112))
    for split in (data.train, data.validation, data.test):
        assert [number % 3 for number in numbers(split)] == split.labels.tolist()
        assert split.images.dtype == np.uint8 and split.labels.dtype == np.int64
    assert train != sorted(train)
    assert data.image_shape == (4, 4, 3)
    assert data.class_names == ("bee", "cat", "dog")


def test_seed_decides_the_splits(file):
    first, again, other = (Npz(path=str(file), split_seed=seed).load() for seed in (0, 0, 1))
    assert numbers(first.train) == numbers(again.train)
    assert first.digest == again.digest
    assert set(numbers(first.validation)) != set(numbers(other.validation))
    assert first.digest != other.digest


def test_limits_are_exact_and_taken_before_validation(file):
    data = Npz(path=str(file), limit_train=20, limit_test=5, validation_fraction=0.25).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (15, 5, 5)
    both = np.concatenate([data.train.labels, data.validation.labels])
    assert sorted(Counter(both.tolist()).values()) == [6, 7, 7]
    assert sorted(Counter(data.test.labels.tolist()).values()) == [1, 2, 2]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"limit_train": 2},
            "dataset.limit_train must be at least 3, one image a class, got 2: set dataset.limit_train=3",
        ),
        (
            {"limit_train": 31},
            "dataset.limit_train must be at most 30, all the images, got 31: set dataset.limit_train=null for all",
        ),
        (
            {"limit_test": 13},
            "dataset.limit_test must be at most 12, all the images, got 13: set dataset.limit_test=null for all",
        ),
        (
            {"limit_train": 20},
            "dataset.limit_train must give each of 3 classes images for training and for validation, got 20 with "
            "dataset.validation_fraction=0.1: set dataset.limit_train=26",
        ),
    ],
)
def test_limit_that_cannot_be_met_is_refused(file, settings, sentence):
    with pytest.raises(ValueError) as caught:
        Npz(path=str(file), **settings).load()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a["x_train"].__setitem__((7, 3, 3, 2), 255),
        lambda a: a["x_test"].__setitem__((0, 0, 0, 0), 255),
        lambda a: a["y_train"].__setitem__(0, 1),
        lambda a: a["y_test"].__setitem__(0, 0),
        lambda a: a["class_names"].__setitem__(0, "ant"),
    ],
    ids=["train pixel", "test pixel", "train label", "test label", "name"],
)
def test_digest_covers_everything(tmp_path, file, change):
    arrays = tiny()
    change(arrays)
    changed = Npz(path=str(write(tmp_path / "changed.npz", arrays))).load().digest
    assert changed != Npz(path=str(file)).load().digest
    assert len(changed) == 64


def test_digest_tells_where_one_name_ends():
    assert base.content_digest((), ["ab", "c"]) != base.content_digest((), ["a", "bc"])


# --- sentences about wrong arrays ---


def without(name):
    return lambda a: {key: value for key, value in a.items() if key != name}


def having(**changes):
    return lambda a: a | {name: change(a[name]) for name, change in changes.items()}


CORRUPTIONS = {
    "missing array": (
        without("y_test"),
        r"tiny.npz must hold the array y_test, got only x_train, y_train, x_test, class_names: write it",
    ),
    "fewer labels": (
        having(y_train=lambda y: y[:-1]),
        r"^y_train must hold one label for each of the 30 images of x_train, got 29: save both",
    ),
    "label too high": (
        having(y_train=lambda y: np.where(y == 2, 7, y)),
        r"^y_train must lie in 0..2, indices into class_names, got 7: add class names, or leave such",
    ),
    "label below zero": (
        having(y_test=lambda y: y.astype(int) - 1),
        r"^y_test must lie in 0..2, indices into class_names, got -1: add class names, or leave such",
    ),
    "class without training images": (
        having(y_train=lambda y: np.where(y == 1, 0, y)),
        r"^y_train must hold every class, got no image of cat: add some, or take the class out of class_names",
    ),
    "class without test images": (
        having(y_test=lambda y: np.where(y == 2, 0, y)),
        r"^y_test must hold every class, got no image of dog: add some, or take the class out of class_names",
    ),
    "one class": (
        having(class_names=lambda n: n[:1]),
        r"^class_names must name at least 2 classes, got \('bee',\): add the missing names$",
    ),
    "a name twice": (
        having(class_names=lambda n: np.array(["bee", "cat", "bee"])),
        r"^class_names must differ from each other, got 'bee' twice: rename one$",
    ),
    "other size": (
        having(x_test=lambda x: x[:, :, :3]),
        r"^x_test must have x_train's image size, 4x4, got 4x3: resize one of them$",
    ),
    "pickled objects": (
        having(y_train=lambda y: y.astype(object)),
        r"^y_train of .*tiny.npz must hold plain numbers or text, got pickled Python objects, .*: write it again as",
    ),
}


@pytest.mark.parametrize(("corrupt", "sentence"), CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_wrong_arrays_are_named(tmp_path, corrupt, sentence):
    path = write(tmp_path / "tiny.npz", corrupt(tiny()))
    with pytest.raises(ValueError, match=sentence):
        Npz(path=str(path)).load()


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """A byte within the first member's data, after its header of some 50 bytes."""
    return content[:100] + bytes([content[100] ^ 255]) + content[101:]


@pytest.mark.parametrize("damage", [truncated, flipped, lambda _: b"", lambda _: b"not an archive" * 9])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_file_is_refused(tmp_path, damage, save):
    path = tmp_path / "tiny.npz"
    save(path, **tiny())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"tiny.npz must be an intact .npz archive, got damage .*: copy or"):
        Npz(path=str(path)).load()


def test_missing_file_is_named(tmp_path):
    dataset = Npz(path=str(tmp_path / "none.npz"))
    for act in (dataset.preflight, dataset.load):
        with pytest.raises(FileNotFoundError, match=r"^dataset.path must name an existing .npz file, got .*none"):
            act()


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


def test_places_do_not_determine_the_result():
    places = ((Npz, {"path", "test_fraction"}), (Folder, {"path"}), (Cifar, {"data_dir", "url", "sha256"}))
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
