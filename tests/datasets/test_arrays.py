import numpy as np
import pytest

from pipelines.datasets import base
from pipelines.datasets.npz import Npz
from tests.datasets.tiny import tiny, write


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "tiny.npz", tiny())


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


def test_digest_separates_class_names():
    assert base.content_digest((), ["ab", "c"]) != base.content_digest((), ["a", "bc"])


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
        r"^y_train must be in 0..2, indices into class_names, got 7: add class names, or leave such",
    ),
    "label below zero": (
        having(y_test=lambda y: y.astype(int) - 1),
        r"^y_test must be in 0..2, indices into class_names, got -1: add class names, or leave such",
    ),
    "class without training images": (
        having(y_train=lambda y: np.where(y == 1, 0, y)),
        r"^y_train must hold every class, got no image of cat: add some, or remove the class from class_names",
    ),
    "class without test images": (
        having(y_test=lambda y: np.where(y == 2, 0, y)),
        r"^y_test must hold every class, got no image of dog: add some, or remove the class from class_names",
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
