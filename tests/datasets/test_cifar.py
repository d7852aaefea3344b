"""CIFAR from a file, from Keras's folder and from a server, made of real pixels in the published format."""

import hashlib
import io
import os
import pickle
import struct
import subprocess
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from pipelines.datasets import cifar, cifar_batches
from pipelines.datasets.cifar import Cifar
from pipelines.datasets.cifar_batches import PUBLISHED
from tests.places import Place
from tests.servers import files_served

SHARED = Path(__file__).parents[3] / "shared" / "data"
NOWHERE = "http://127.0.0.1:1/cifar-10-python.tar.gz"


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes like Python 2, which wrote CIFAR's batches."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)
    write: Any  # set by the pickler's constructor

    def save_text(self, text: str | bytes) -> None:
        content = text.encode("latin-1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)

    dispatch[str] = dispatch[bytes] = save_text


def pickled(batch: dict[bytes, object]) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(batch)
    return stream.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits at 32 px, uint8 (n, 32, 32, 3), and their labels; red and blue differ."""
    from sklearn.datasets import load_digits

    source = load_digits()
    grey = np.rint(source.images[:count] * 255 / 16).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    return np.stack([grey, grey, 255 - grey], axis=-1), source.target[:count]


def write_archive(path: Path, classes: int = 10, batch: int = 100) -> Path:
    """CIFAR's archive with `batch` images in each of its batches."""
    published = PUBLISHED[classes]
    names = [*published.train, published.test]
    images, labels = digits(batch * len(names))
    if classes == 100:
        labels = np.arange(len(labels)) % 100
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for number, name in enumerate(names):
            part = slice(number * batch, (number + 1) * batch)
            content = pickled(
                {
                    b"batch_label": b"one of several",
                    published.labels: labels[part].tolist(),
                    b"data": images[part].transpose(0, 3, 1, 2).reshape(batch, -1),
                }
            )
            member = tarfile.TarInfo(f"{published.folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "keras" / "datasets"


# --- the command ---


@pytest.mark.slow
def test_download_is_checked_kept_and_used_again(tmp_path):
    place = Place(tmp_path)
    archive = write_archive(tmp_path / "mirror" / "cifar-10-python.tar.gz")
    environment = {"KERAS_HOME": str(tmp_path / "keras"), "no_proxy": "127.0.0.1"}
    common = [
        "technique=baseline",
        "dataset=cifar10",
        "training.epochs=1",
        f"data_dir={tmp_path}/none",
        f"dataset.sha256={sha256(archive)}",
    ]

    with files_served(archive.parent) as url:
        address = f"dataset.url={url}/{archive.name}"
        wrong = place.run(*common, address, f"dataset.sha256={'0' * 64}", out="wrong", **environment)
        kept = tmp_path / "keras" / "datasets" / "cifar-10-batches-py.tar.gz"
        assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
        assert f"must give the file with SHA-256 {'0' * 64}" in wrong.stderr and f"put it at {kept}" in wrong.stderr
        assert not kept.exists()
        fetched = place.run(*common, address, out="fetched", **environment)
    assert fetched.returncode == 0, fetched.stderr
    assert f"downloading {url}/{archive.name} to {kept}" in fetched.stdout
    assert "cifar10: 240 training, 60 validation and 100 test images of 32x32 pixels, 10 classes: airplane" in " ".join(
        fetched.stdout.split()
    )
    assert kept.read_bytes() == archive.read_bytes()

    # The server is gone.
    again = place.run(*common, f"dataset.url={NOWHERE}", out="again", **environment)
    assert again.returncode == 0, again.stderr
    assert "reused" in again.stdout and "downloading" not in again.stdout
    assert {run.data.tags["dataset"] for run in place.cells()} == {"cifar10"}


def test_offline_refusal_names_where_to_put_the_file(tmp_path):
    place = Place(tmp_path)
    done = place.run(
        "dataset=cifar10",
        f"data_dir={tmp_path}/none",
        f"dataset.url={NOWHERE}",
        KERAS_HOME=str(tmp_path / "keras"),
        no_proxy="127.0.0.1",
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"opscore: cifar10 must be in {tmp_path}/none or {tmp_path}/keras/datasets/cifar-10-")
    assert f"put the archive of that address into {tmp_path}/keras/datasets/cifar-10-batches-py.tar.gz, or" in line


# --- places searched ---


@pytest.mark.parametrize("classes", [10, 100])
def test_real_file_is_read(classes):
    if not (SHARED / f"cifar{classes}.npz").is_file():
        pytest.skip(f"no real images in {SHARED}")
    dataset = Cifar(classes=classes, data_dir=str(SHARED), limit_train=4000, limit_test=1000)
    dataset.preflight()
    data = dataset.load()
    assert (len(data.train), len(data.validation), len(data.test)) == (3600, 400, 1000)
    assert set(Counter(data.validation.labels.tolist()).values()) == {400 // classes}
    assert data.class_names == cifar.CLASS_NAMES[classes]
    assert data.image_shape == (32, 32, 3)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("unpacked", [False, True])
def test_every_usual_place_gives_the_same_images(tmp_path, home, classes, unpacked):
    archive = write_archive(tmp_path / "made.tar.gz", classes, batch=200)
    published = PUBLISHED[classes]
    names = [published.folder, f"{published.folder}-target/{published.folder}"] if unpacked else published.keras
    places = [*(home / name for name in names), tmp_path / "data" / (published.folder if unpacked else published.file)]
    count = 200 * len(published.train)
    images, labels = digits(count + 200)
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        if unpacked:
            subprocess.run(["tar", "xf", archive, "-C", place.parent], check=True)
        else:
            archive.rename(place)
        dataset = Cifar(classes=classes, data_dir=str(tmp_path / "data"), url=NOWHERE, sha256=sha256_of(place))
        dataset.preflight()
        arrays = dataset.read_arrays()
        assert arrays.x_test is not None
        assert (arrays.x_train == images[:count]).all() and (arrays.x_test == images[count:]).all()
        assert arrays.x_train.dtype == np.uint8 and arrays.class_names == cifar.CLASS_NAMES[classes]
        expected = labels if classes == 10 else np.arange(count + 200) % 100
        assert arrays.y_train.tolist() == expected[:count].tolist()
        place.rename(tmp_path / "away") if unpacked else place.rename(archive)
        if unpacked:
            subprocess.run(["rm", "-r", tmp_path / "away"], check=True)


def sha256_of(place: Path) -> str | None:
    return sha256(place) if place.is_file() else None


def test_file_of_other_classes_is_refused(tmp_path):
    names = np.array(["bee", "cat"])
    x, y = np.zeros((2, 4, 4, 3), np.uint8), np.arange(2)
    x[0] = 255
    np.savez(tmp_path / "cifar10.npz", x_train=x, y_train=y, x_test=x, y_test=y, class_names=names)
    with pytest.raises(ValueError, match=r"cifar10.npz must hold 10 class names, got 2: put the file of cifar10"):
        Cifar(classes=10, data_dir=str(tmp_path)).load()


# --- refusals ---


def test_archive_of_another_hash_is_refused(tmp_path, home):
    kept = write_archive(home / "cifar-10-batches-py.tar.gz", batch=2)
    with pytest.raises(ValueError, match=rf"^{kept} must be the archive with SHA-256 6d958.*, got {sha256(kept)}: del"):
        Cifar(classes=10, data_dir=str(tmp_path)).load()


def emptied(content: bytes) -> bytes:
    return content[:0]


def halved(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    return content[:3000] + bytes(byte ^ 255 for byte in content[3000:3050]) + content[3050:]


@pytest.mark.parametrize("damage", [emptied, halved, flipped, lambda _: b"<html>moved</html>"])
def test_damaged_archive_is_named(tmp_path, home, damage):
    kept = write_archive(home / "cifar-10-batches-py.tar.gz", batch=20)
    kept.write_bytes(damage(kept.read_bytes()))
    with pytest.raises(ValueError, match=rf"^{kept} must hold CIFAR's batches as published, but reading failed \("):
        Cifar(classes=10, data_dir=str(tmp_path), sha256=sha256(kept)).load()


def test_half_an_unpacked_folder_is_named(tmp_path, home):
    archive = write_archive(tmp_path / "made.tar.gz", batch=20)
    subprocess.run(["tar", "xf", archive, "-C", tmp_path], check=True)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(ValueError, match=r"cifar-10-batches-py must hold .*data_batch_4.*put cifar-10-python.tar.gz"):
        Cifar(classes=10, data_dir=str(tmp_path)).load()


def test_pickle_that_runs_code_is_refused(tmp_path, home):
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/harmed",)

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*PUBLISHED[10].train, PUBLISHED[10].test):
        (folder / name).write_bytes(pickle.dumps({b"data": Harmful()}))
    with pytest.raises(ValueError, match=r"asks for posix.system, which no batch needs: distrust it"):
        cifar_batches.read(folder, PUBLISHED[10])
    assert not (tmp_path / "harmed").exists()


def test_folder_that_cannot_be_written_is_refused(tmp_path, home, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=r"^Keras's folder must be writable, got .*keras: for example `export"):
        Cifar(classes=10, data_dir=str(tmp_path), url=NOWHERE).preflight()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"classes": 20}, r"^dataset.classes must be one of 10, 100, got 20"),
        ({"data_dir": None}, r"^dataset.data_dir must name a folder, got None: set"),
        ({"url": "mirror/cifar"}, r"^dataset.url must be an address that .*got 'mirror/cifar': set dataset.url=null"),
        ({"sha256": "12"}, r"^dataset.sha256 must be 64 hexadecimal digits, got '12': set dataset.sha256=null"),
    ],
)
def test_bad_field_is_named(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Cifar(**({"classes": 10, "data_dir": "x"} | settings))
