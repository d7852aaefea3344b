"""Images in folders: what is read, left out, and told."""

import io
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from pipelines.datasets import layout, notes
from pipelines.datasets.base import ImageData, Split
from pipelines.datasets.folder import Folder
from pipelines.system.places import PACKAGE
from tests.datasets.plain import TWO, found, images
from tests.places import ROOT, unprivileged

# A TIFF of 8 x 8 pixels.
THUMBNAIL = io.BytesIO()
Image.new("RGB", (8, 8)).save(THUMBNAIL, "tiff")


def reds(split: Split) -> list[int]:
    return sorted(split.images[:, 0, 0, 0].tolist())


def test_skipped_files_are_counted_in_one_sentence(tmp_path: Path) -> None:
    for name in TWO:
        images(tmp_path / name)
    images(tmp_path / "ant" / ".ipynb_checkpoints")
    images(tmp_path / ".trash")
    run = tmp_path / "outputs" / "2026-11-29" / "10-00-00"
    images(run / "small_cnn-digits-baseline" / "figures")
    (run / ".hydra").mkdir()
    images(tmp_path / "mlruns" / "artifacts" / "1")
    images(tmp_path / "multirun" / "mine" / "0" / "figures")
    (tmp_path / "multirun" / "mine" / "multirun.yaml").touch()
    images(tmp_path / "mlartifacts" / "1" / "f00d" / "artifacts")
    images(tmp_path / "opscore-layers")
    for file in ("sensitivity.json", "sensitivity.png"):
        (tmp_path / "opscore-layers" / file).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "bee" / "._1.png").write_bytes(b"of a Mac")
    (tmp_path / "bee" / "notes.txt").write_text("none")
    (tmp_path / "labels.csv").write_text("none")
    Image.new("RGB", (8, 8)).save(tmp_path / "cover.jpg")
    it = layout.find(tmp_path)
    assert {name: len(files) for name, files in it.files["train"].items()} == TWO
    assert it.left_out == (
        f"left out of {tmp_path}: 2 files that are no images (labels.csv, bee/notes.txt); "
        "1 image outside the class folders (cover.jpg); 1 folder without images in it (empty); "
        "5 folders of opscore's output (mlartifacts, mlruns, multirun and 2 more); 3 hidden"
    )


def test_class_may_have_the_name_of_an_output(tmp_path: Path) -> None:
    for name in ("estimated", "measured", "outputs"):
        images(tmp_path / name)
    images(tmp_path / "multirun" / "2020" / "day")
    assert layout.find(tmp_path).class_names == ("estimated", "measured", "multirun", "outputs")


def test_class_may_hold_files_called_like_an_output(tmp_path: Path) -> None:
    for name, file in (("ant", "report.html"), ("bee", "MODEL_CARD.md"), ("cow", "mlflow.db")):
        images(tmp_path / name)
        (tmp_path / name / file).write_text("of another program")
    images(tmp_path / "dog" / "2020")
    for file in ("report.html", "MODEL_CARD.md", "mlflow.db"):
        (tmp_path / "dog" / file).write_text("of another program")
    assert layout.find(tmp_path).class_names == ("ant", "bee", "cow", "dog")
    for name in ("MODEL_CARD.md", "model.tflite"):
        (tmp_path / "pulled").mkdir(exist_ok=True)
        (tmp_path / "pulled" / name).write_text("a model")
    images(tmp_path / "pulled" / "examples")
    images(tmp_path / "report")
    page = PACKAGE / "report" / "page.html.jinja"
    (tmp_path / "report" / "report.html").write_bytes(page.read_bytes())
    assert layout.find(tmp_path).class_names == ("ant", "bee", "cow", "dog")


@pytest.mark.parametrize("other", [" cat", "cat ", unicodedata.normalize("NFD", "café")])
def test_two_folders_of_one_class_are_refused(tmp_path: Path, other: str) -> None:
    for name in ("ant", unicodedata.normalize("NFC", other.strip()), other):
        images(tmp_path / name)
    with pytest.raises(ValueError, match=r"must have one folder for each class, got .* and .*: move the images"):
        layout.find(tmp_path)


def test_folder_of_a_part_may_hold_a_model_card(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in TWO:
            images(tmp_path / part / name)
        (tmp_path / part / "MODEL_CARD.md").write_text("of another program")
    assert set(layout.find(tmp_path).files) == {"train", "test"}


def test_output_that_links_to_itself_is_skipped(tmp_path: Path) -> None:
    for name in TWO:
        images(tmp_path / name)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "outputs").symlink_to(tmp_path / "outputs")
    assert layout.find(tmp_path).class_names == tuple(TWO)


def test_images_of_any_suffix_are_read(tmp_path: Path) -> None:
    for name in TWO:
        for ending in ("jpg", "JPEG", "png", "webp", "tif", "bmp", "gif", "ppm"):
            images(tmp_path / name, 1, ending=ending)
    (tmp_path / "ant" / "0.png").rename(tmp_path / "ant" / "IMG_0001")
    assert found(tmp_path) == {"train": TWO}


def test_links_are_followed_and_cycles_are_not(tmp_path: Path) -> None:
    images(tmp_path / "store" / "all" / "x")
    root = tmp_path / "pets"
    images(root / "bee")
    (root / "ant").symlink_to(tmp_path / "store" / "all")
    (root / "bee" / "again").symlink_to(root / "bee")
    # It would give the bees the ants' images.
    (root / "bee" / "up").symlink_to(root)
    assert found(root) == {"train": TWO}
    assert "2 folders without images in it (bee/again, bee/up)" in layout.find(root).left_out


@pytest.mark.parametrize("name", ["pipe", "pipe.png"])
def test_pipe_is_skipped_and_not_waited_for(tmp_path: Path, name: str) -> None:
    for folder in TWO:
        images(tmp_path / folder)
    os.mkfifo(tmp_path / "ant" / name)
    it = layout.find(tmp_path)
    assert {folder: len(files) for folder, files in it.files["train"].items()} == TWO
    assert f"1 file that is no image (ant/{name})" in it.left_out


def test_class_that_is_a_dangling_link_is_named(tmp_path: Path) -> None:
    for name in TWO:
        images(tmp_path / name)
    (tmp_path / "cat").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"/cat must be a file, got a link to nothing: mend the link or delete it"):
        layout.find(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("IMG_0001.HEIC", b"\0\0\0\x18ftypheic" + bytes(40)),
        ("scan.dcm", bytes(128) + b"DICM"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        # A TIFF whose first image is a thumbnail.
        ("DSC_0001.NEF", THUMBNAIL.getvalue()),
        ("pixel.dng", THUMBNAIL.getvalue()),
    ],
)
def test_image_that_pillow_cannot_open_is_named(tmp_path: Path, file: str, content: bytes) -> None:
    for name in TWO:
        images(tmp_path / name)
    # A class with no other images would be lost.
    (tmp_path / "cow").mkdir()
    for number in range(8):
        (tmp_path / "cow" / f"{number}{file}").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file} must be an image that Pillow opens, got .*: save it as PNG"):
        Folder(path=str(tmp_path), image_size=8, validation_fraction=0.3).load()


def test_files_without_permission_are_named_at_once(tmp_path: Path) -> None:
    for name in TWO:
        images(tmp_path / "photos" / name)
    for path in (tmp_path / "photos").glob("*/*"):
        path.chmod(0)
    folder = f"Folder(path={str(tmp_path / 'photos')!r}, image_size=8, validation_fraction=0.3)"
    code = f"from pipelines.datasets.folder import Folder; {folder}.load()"
    environment = {**os.environ, "OPSCORE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        preexec_fn=unprivileged,
        check=False,
    )
    assert re.search(
        r"0.png must be readable, got no permission.*; 15 more cannot be read either: all are", done.stderr
    )


def test_dangling_link_is_named(tmp_path: Path) -> None:
    for name in TWO:
        images(tmp_path / name)
    (tmp_path / "ant" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match=r"ant/gone.png must be a file, got a link to nothing: mend the link"):
        Folder(path=str(tmp_path), image_size=8, validation_fraction=0.3).load()


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    images(tmp_path / "bee")
    images(tmp_path / os.fsdecode("käse".encode("latin-1")))
    (tmp_path / "bee" / os.fsdecode("fußball.png".encode("latin-1"))).write_bytes(
        (tmp_path / "bee" / "0.png").read_bytes()
    )
    dataset = Folder(path=str(tmp_path), image_size=8, validation_fraction=0.3)
    assert dataset.load().class_names == ("bee", "käse")


@pytest.mark.parametrize(
    ("form", "expected"),
    # The accent is a character of its own on a Mac, and sorts after the letter; composed, it sorts after z.
    [("NFD", ("éclair", "pizza")), ("NFC", ("pizza", "éclair"))],
)
def test_classes_are_numbered_by_their_folders_own_names(
    tmp_path: Path, form: Literal["NFC", "NFD"], expected: tuple[str, ...]
) -> None:
    names = [unicodedata.normalize(form, name) for name in ("éclair", "pizza")]
    for name in names:
        images(tmp_path / "train" / name)
    assert sorted(names) == [unicodedata.normalize(form, name) for name in expected]
    assert Folder(path=str(tmp_path), image_size=8, validation_fraction=0.3).load().class_names == expected


@pytest.mark.parametrize(("second", "told"), [(4000, "all images have"), (65535, "8 of 16 images have")])
def test_images_of_12_bits_in_16_are_noted(tmp_path: Path, second: int, told: str) -> None:
    """Also where another class has the whole range."""
    for name, brightest in zip(TWO, (4095, second), strict=True):
        (tmp_path / name).mkdir()
        for number in range(8):
            Image.fromarray(np.full((8, 8), brightest - number, np.uint16)).save(tmp_path / name / f"{number}.png")
    data = Folder(path=str(tmp_path), image_size=8, validation_fraction=0.3, test_fraction=0.3).load()
    assert any(note.startswith(f"{told} no pixel of 64 or more, of 255") for note in data.notes), data.notes


def test_folders_that_are_left_out_are_told(tmp_path: Path) -> None:
    for folder in ("train/ant/images", "train/ant/masks", "train/bee", "test/ant", "test/bee", "predict"):
        images(tmp_path / folder)
    (tmp_path / "empty").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "1.png").symlink_to("nothing")
    it = layout.find(tmp_path)
    assert it.left_out == (
        f"left out of {tmp_path}: 1 folder without images in it (empty); "
        "3 folders of other images (old, predict, train/ant/masks)"
    )


def test_a_class_that_holds_itself_is_left_out(tmp_path: Path) -> None:
    for name in TWO:
        images(tmp_path / name)
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "loop").symlink_to(tmp_path / "loop")
    assert found(tmp_path) == {"train": TWO}


@pytest.mark.parametrize(("given", "name"), [(".", "pets"), ("..", "all"), ("../pets", "pets"), ("../pets/", "pets")])
def test_default_name_is_the_folders_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, name: str
) -> None:
    (tmp_path / "all" / "pets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "all" / "pets")
    assert Folder(path=given, image_size=8).name == name


def test_folder_for_validation_is_used(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("val", 100), ("test", 200)):
        for name in TWO:
            images(tmp_path / split / name, 6, first)
    dataset = Folder(path=str(tmp_path), image_size=8)
    data = dataset.load()
    assert reds(data.train) == sorted([*range(6)] * 2)
    assert reds(data.validation) == sorted([*range(100, 106)] * 2)
    assert reds(data.test) == sorted([*range(200, 206)] * 2)
    limited = Folder(path=str(tmp_path), image_size=8, limit_train=12, limit_test=4).load()
    assert [len(split) for split in (limited.train, limited.validation, limited.test)] == [6, 6, 4]


def test_folder_of_classes_is_split(tmp_path: Path) -> None:
    for name, first in (("bee", 0), ("train", 100)):
        images(tmp_path / name, 10, first)
    load = Folder(path=str(tmp_path), image_size=8, test_fraction=0.3, validation_fraction=0.15).load
    data, again = load(), load()
    found = [reds(split) for split in (data.train, data.validation, data.test)]
    assert [len(each) for each in found] == [12, 2, 6]
    assert sorted(red for each in found for red in each) == [*range(10), *range(100, 110)]
    assert Counter(data.test.labels.tolist()) == {0: 3, 1: 3}
    assert data.class_names == ("bee", "train")
    assert (data.train.labels == (data.train.images[:, 0, 0, 0] >= 100)).all()
    assert data.digest == again.digest


def test_unreadable_image_is_named(tmp_path: Path) -> None:
    for name in TWO:
        images(tmp_path / name)
    (tmp_path / "bee" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"bee/1.png must be an image that Pillow opens, got another file: save"):
        Folder(path=str(tmp_path), image_size=8, validation_fraction=0.3).load()


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^dataset.path must name an existing folder, got .*none: "):
        Folder(path=str(tmp_path / "none"), image_size=8).preflight()


def test_description_fits_a_terminal_and_names_duplicates(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name, first in (("ant", 0), ("bee", 50)):
            images(tmp_path / split / name, 10, first if split == "train" else first + 8)
    dataset = Folder(path=str(tmp_path), image_size=8, name="insects")
    text = notes.description(dataset.name, dataset.load())
    words = re.sub(r"\s+", " ", text)
    assert "insects: 18 training, 2 validation and 20 test images of 8x8 pixels, 2 classes: ant, bee" in words
    assert re.search(r"[34] test images are training images too, pixel by pixel, of 20: accuracy looks better", words)
    assert max(map(len, text.splitlines())) < 80


def test_validation_images_that_are_test_images_are_reported(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("val", 30), ("test", 30)):
        for name, offset in (("ant", 0), ("bee", 50)):
            images(tmp_path / split / name, 4, first + offset)
    text = " ".join(Folder(path=str(tmp_path), image_size=8, name="insects").load().notes)
    assert "8 test images are validation images too, pixel by pixel, of 8: accuracy looks better than it is" in text


def test_many_classes_are_shortened() -> None:
    images = np.zeros((100, 8, 8, 3), np.uint8)
    split = Split(images=images, labels=np.arange(100))
    names = tuple(f"class {number}" for number in range(100))
    data = ImageData(train=split, validation=split, test=split, class_names=names, digest="")
    assert "100 classes: class 0, class 1," in re.sub(r"\s+", " ", notes.description("many", data))
    assert "... class 99" in re.sub(r"\s+", " ", notes.description("many", data))
