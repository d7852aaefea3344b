"""Which folders are classes, which are splits, and what is refused or told."""

from pathlib import Path

import pytest

from pipelines.datasets import layout
from pipelines.datasets.folder import Folder
from tests.datasets.plain import TWO, found, images


def create(root: Path, folders: list[str]) -> None:
    """Folders of images; one whose name ends with `!` is empty, or is a file if the name has a suffix."""
    for folder in folders:
        path = root / folder.removesuffix("!")
        images(path.parent if path.suffix else path, count=0 if folder.endswith("!") else 8)
        if path.suffix:
            path.touch()


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["ant", "bee"], {"train": TWO}),
        (["train/ant", "train/bee", "test/ant", "test/bee"], {"train": TWO, "test": TWO}),
        (["Training/ant", "Training/bee", "Testing/ant", "Testing/bee"], {"train": TWO, "test": TWO}),
        (
            ["TRAIN/ant", "TRAIN/bee", "Valid/ant", "Valid/bee", "test/ant", "test/bee"],
            {"train": TWO, "validation": TWO, "test": TWO},
        ),
        (["train/ant", "train/bee", "validation/ant", "validation/bee"], {"train": TWO, "validation": TWO}),
        (["train_images/ant", "train_images/bee", "test-set/ant", "test-set/bee"], {"train": TWO, "test": TWO}),
        (["train/ant", "train/bee"], {"train": TWO}),
        (["train/ant", "train/bee", "notebooks!"], {"train": TWO}),
        # As known collections call them, a folder without labels among them.
        (
            [
                "seg_train/seg_train/ant",
                "seg_train/seg_train/bee",
                "seg_test/seg_test/ant",
                "seg_test/seg_test/bee",
                "seg_pred/seg_pred",
            ],
            {"train": TWO, "test": TWO},
        ),
        (
            ["training/ant", "training/bee", "validation/ant", "validation/bee", "evaluation/ant", "evaluation/bee"],
            {"train": TWO, "validation": TWO, "test": TWO},
        ),
        # Deeper only, wrapped, doubled, and next to annotations.
        (["ant/2024/may", "bee/2023"], {"train": TWO}),
        (
            ["insects/train/ant", "insects/train/bee", "insects/test/ant", "insects/test/bee"],
            {"train": TWO, "test": TWO},
        ),
        (["train/train/ant", "train/train/bee", "test/test/ant", "test/test/bee"], {"train": TWO, "test": TWO}),
        (["images/ant", "images/bee", "annotations/ant/x"], {"train": TWO}),
        (["train/images/ant", "train/images/bee", "test/images/ant", "test/images/bee"], {"train": TWO, "test": TWO}),
        (["train/ant", "train/bee", "test1/ant", "test1/bee"], {"train": TWO, "test": TWO}),
        # The splits within the classes.
        (["ant/train", "ant/test", "bee/train", "bee/test"], {"train": TWO, "test": TWO}),
        (["train/ant", "train/bee", "validate/ant", "validate/bee"], {"train": TWO, "validation": TWO}),
        # Masks are no photographs.
        (["ant/images", "ant/masks", "bee/images", "bee/masks"], {"train": TWO}),
        # Next to classes, they may be another one.
        (["photos", "labels", "receipts"], {"train": {"labels": 8, "photos": 8, "receipts": 8}}),
        # Classes that are called like splits.
        (["train", "plane"], {"train": {"plane": 8, "train": 8}}),
        (["train", "test", "plane"], {"train": {"plane": 8, "test": 8, "train": 8}}),
        (["train", "plane", "train/inside"], {"train": {"plane": 8, "train": 16}}),
        # A folder of masks, or of cameras, is no class folder.
        (["train", "train/masks", "train/labels", "test", "plane"], {"train": {"plane": 8, "test": 8, "train": 24}}),
        (["dev1", "dev2"], {"train": {"dev1": 8, "dev2": 8}}),
        (["ant", "bee", "train_logs!", "test_logs!"], {"train": TWO}),
        (["dev_board", "test_board", "other"], {"train": {"dev_board": 8, "other": 8, "test_board": 8}}),
        # Views of one thing.
        (["left/left", "left/right", "right/left", "right/right"], {"train": {"left": 16, "right": 16}}),
        # Drawings next to the images that were made of them.
        (["ant", "bee", "ant/0.svg!", "logo.svg!"], {"train": TWO}),
        (["crash_test", "driving_test"], {"train": {"crash_test": 8, "driving_test": 8}}),
        (["steam_train", "crash_test"], {"train": {"crash_test": 8, "steam_train": 8}}),
    ],
)
def test_layouts(tmp_path: Path, folders: list[str], expected: dict[str, dict[str, int]]) -> None:
    create(tmp_path, folders)
    assert found(tmp_path) == expected


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        ([], r"must have one folder with images for each of at least 2 classes, got none: make one folder"),
        (["ant"], r"must have one folder with images for each of at least 2 classes, got ant: make"),
        (["."], r"must have one folder .* at least 2 classes, got 8 images directly: make one folder for each class"),
        (
            ["train/ant", "train/bee", "test/ant"],
            r"same classes in train and test, got no image of bee in test, but in train",
        ),
        (["test/ant", "test/bee"], r"must hold a folder train with the class folders, got test alone: add train"),
        (
            ["fold1/ant", "fold1/bee", "fold2/ant", "fold2/bee"],
            r"got fold1 to fold2 that hold the same folders ant, bee: name one of them test and join the others",
        ),
        (["train", "test"], r"train must hold one folder for each class, got images directly: make the class folders"),
        (
            ["train/a", "train/b", "Train/a", "test/a"],
            r"must hold one folder for each split, got Train and train: join",
        ),
        (["train_1", "train_2", "test"], r"train_1 must hold one folder for each class, got images directly"),
        # What opscore or another tool leaves next to them is no class.
        (
            ["train", "test", "models!"],
            r"train must hold one folder for each class, got images directly: make the class",
        ),
        (
            ["train", "train/ant", "train/bee", "test", "test/ant", "test/bee", "runs"],
            r"train must hold images, .* got 0.png next to the folders ant, bee: move the images away, or the folders",
        ),
        (
            ["valid/may", "valid/june", "invalid/may", "invalid/june"],
            r"invalid to train, .* or valid if both",
        ),
        # Images for testing that nobody has labelled, and another folder.
        (
            ["train/ant", "train/bee", "test", "docs"],
            r"got train with the folders ant, bee in it, next to test: move test away, or the folders out of train",
        ),
        (["train/ant", "train/bee", "sample"], r"in it, next to sample: move sample away"),
        (
            ["data/train/ant", "data/train/bee", "data/val/ant", "data/val/bee", "figures"],
            r"got data, which holds train and val with class folders: set dataset\.path=\S+/data$",
        ),
        (
            [
                "New Plant/New Plant/train/ant",
                "New Plant/New Plant/train/bee",
                "New Plant/New Plant/valid/ant",
                "New Plant/New Plant/valid/bee",
                "test/test",
            ],
            r"got New Plant, which holds train and valid .*: set 'dataset\.path=\S+/New Plant/New Plant'$",
        ),
        ([".", "pets/ant", "pets/bee"], r"got several folders in pets: set dataset\.path=\S+/pets$"),
        (["ant/x.npy!", "labels.csv!"], r"2 classes, got none, but files such as ant/x.npy: make .* as PNG or JPEG$"),
        # Tiny ImageNet, whose labels for validation are in a file.
        (
            ["train/ant/images", "train/bee/images", "val/images", "test/images"],
            r"got all images of validation in the folder images: sort them into class folders, or move them out",
        ),
        # Names that differ only in the split.
        (
            ["train-jpg", "test-jpg-v2"],
            r"got train-jpg and test-jpg-v2, which look like splits: make the folders train",
        ),
        (["train-jpg/ant", "train-jpg/bee", "test-jpg/ant", "test-jpg/bee"], r"got train-jpg and test-jpg, which look"),
        (["stage_1_train_images", "stage_1_test_images"], r"got stage_1_train_images and stage_1_test_images, which"),
        (["resized train", "resized test"], r"got resized train and resized test, which look like splits"),
        (["seg_train", "seg_test"], r"make the folders train and test with a folder for each class in both, or rename"),
        (["trainA", "trainB", "testA", "testB"], r"got trainA and testA, which look like splits"),
        (["cat_train", "cat_test", "dog_train", "dog_test"], r"got cat_train and cat_test, which look like splits"),
        (["my_val", "my_dev", "my_test"], r"got my_dev and my_test, .*: make the folders validation and test with"),
        (
            ["a_part_1/ant", "a_part_1/bee", "a_part_2/ant", "a_part_2/bee"],
            r"got a_part_1 to a_part_2 that hold the same folders ant, bee: name one",
        ),
        (
            ["fold1/ant", "fold1/bee", "fold2/ant", "fold2/bee", "docs!"],
            r"got fold1 to fold2 that hold the same folders ant, bee: name one",
        ),
        # Masks are no class.
        (
            ["images", "annotations/trimaps", "annotations/xmls!"],
            r"2 classes, got images without annotations: make one folder .*, or rename annotations if that is a class$",
        ),
        (["data/images", "data/masks"], r"at least 2 classes, got images without masks: make one folder for each"),
        (["train/images", "train/masks"], r"at least 2 classes, got images without masks: make one folder for each"),
        (
            ["train/images", "train/masks", "val/images", "val/masks", "test/images", "test/masks"],
            r"at least 2 classes, got images without masks: make one folder for each class",
        ),
        # A copy of all in it, once in a wrapper, and with one class less.
        (
            ["ant", "bee", "all/ant", "all/bee"],
            r"got all, which holds the folders ant, bee again: move it away, or rename",
        ),
        (["ant", "bee", "cow", "old/all/ant", "old/all/bee"], r"got old, which holds the folders ant, bee again"),
        (["train/ant", "train/bee", "train/train/ant", "train/train/bee"], r"/train must have .*, got train, which"),
        (
            ["train_val/ant", "train_val/bee", "test/ant", "test/bee"],
            r"must hold a folder train .*, got test alone: rename train_val to train, if it is that",
        ),
        (
            ["ant/train", "ant/test", "bee/train", "bee/test", "ant/extra"],
            r"must have all images of its classes in folders of the splits, .* got ant/extra/.*: move it into one",
        ),
        (["ant/train", "ant/test", "bee/train", "bee/test", "cow"], r"as those of ant are in train and test, got cow/"),
        (
            ["ant/train", "ant/test", "ant/val", "bee/train", "bee/test", "ant"],
            r"those of ant are in .*, got ant/0",
        ),
    ],
)
def test_impossible_layouts_are_refused(tmp_path: Path, folders: list[str], sentence: str) -> None:
    create(tmp_path, folders)
    with pytest.raises(ValueError, match=sentence):
        layout.find(tmp_path)


@pytest.mark.parametrize(
    ("folders", "variants"),
    [
        (["color/ant", "color/bee", "gray scale/ant", "gray scale/bee"], True),
        (["color/ant/may", "color/bee", "gray scale/ant", "gray scale/bee/june"], True),
        (["ant/front", "bee/front"], False),
        (["ant/front", "ant/back", "bee/front"], False),
        (["ant", "ant/back", "bee", "bee/back"], False),
        (["ant/train", "ant/test", "bee/train", "bee/test"], False),
        (["train/ant", "train/bee", "test/ant", "test/bee"], False),
    ],
)
def test_equal_folders_in_all_classes_are_told(tmp_path: Path, folders: list[str], variants: bool) -> None:
    for folder in folders:
        images(tmp_path / folder)
    told = layout.find(tmp_path).doubts
    if not variants:
        assert told == []
        return
    (told,) = told
    path, end = str(tmp_path / "color"), "if those are the classes, set dataset.path="
    assert told == f"color and gray scale are the classes, and each holds the same 2 folders ant, bee: {end}{path}"
    assert layout.find(tmp_path / "color").class_names == ("ant", "bee")
    assert told in Folder(path=str(tmp_path), image_size=8).load().notes


def test_classes_that_are_called_like_splits_are_told(tmp_path: Path) -> None:
    for folder in ("train", "test", "plane"):
        images(tmp_path / folder, 16)
    (told,) = layout.find(tmp_path).doubts
    assert told.startswith("test, train: taken for classes, not for splits, which must hold")
    assert told in Folder(path=str(tmp_path), image_size=8).load().notes


@pytest.mark.parametrize(
    ("folders", "mend"),
    [
        (("a_test", "plain"), "set dataset.path={}/plain"),
        (("crash_test", "driving_test"), "join those of each name, or call the outer folders train and test"),
    ],
)
def test_no_path_of_a_split_is_advised(tmp_path: Path, folders: tuple[str, str], mend: str) -> None:
    for folder in folders:
        create(tmp_path, [f"{folder}/ant/x", f"{folder}/bee"])
    (told,) = layout.find(tmp_path).doubts
    assert told.endswith(f"if those are the classes, {mend.format(tmp_path)}")


@pytest.mark.parametrize("names", [("HAM_images_part_1", "HAM_images_part_2"), ("images_001/images", "images_002")])
def test_classes_that_are_called_like_parts_are_told(tmp_path: Path, names: tuple[str, ...]) -> None:
    create(tmp_path, [*names])
    (told,) = layout.find(tmp_path).doubts
    first, second = (name.partition("/")[0] for name in names)
    assert told.startswith(f"{first}, {second}: taken for classes, but called like parts of one dataset: if they are,")


def test_masks_next_to_their_images_are_a_doubt(tmp_path: Path) -> None:
    for name in TWO:
        images(tmp_path / name)
    first = next(iter((tmp_path / "ant").iterdir()))
    (tmp_path / "ant" / f"{first.stem}_mask_1{first.suffix}").write_bytes(first.read_bytes())
    (told,) = layout.find(tmp_path).doubts
    assert told.startswith(f"images such as {first.stem}_mask_1{first.suffix} (1 in all) are called like masks of")
