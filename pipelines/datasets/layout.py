"""Where the images of a folder are: its classes, its splits, and what is left out."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

from pipelines.datasets.base import listed
from pipelines.datasets.picture import printable, unreadable

SPLITS = ("train", "validation", "test")
_EXTRA = r"[\W_]*(set|data|images?|imgs?|split)?[\W_]*\d*"
_SPLIT = {
    "train": re.compile(rf"(train(ing)?|trn){_EXTRA}"),
    "validation": re.compile(rf"(val(id(ation)?)?|dev(elopment)?){_EXTRA}"),
    "test": re.compile(rf"(test(ing)?|tst|eval(uation)?){_EXTRA}"),
}
# The end of a longer name, as in `seg_train` and `asl_alphabet_test`.
_LAST_WORD = re.compile(r"[^\W_]+$")
_IMAGES = re.compile(r"(jpeg|png)?im(age|g)s?|pictures|pics|photos")
_NOTES = re.compile(r"(annot?(ation)?|label|mask|trimap|segmentation|bbox|xml|json|meta(data)?|list)s?")
# What desktops, editors and archives leave behind, beside all names that begin with a dot.
_HIDDEN = {
    "__macosx", "thumbs.db", "desktop.ini", "@eadir", "__pycache__", "$recycle.bin", "lost+found",
    "system volume information",
}  # fmt: skip
# What opscore and MLflow write where the command is run.
_PRODUCTS = {"outputs", "multirun", "mlruns", "mlartifacts", "measured"}
_PRODUCT_FILES = {"MODEL_CARD.md", "report.html", "mlflow.db"}
# Formats that Pillow recognizes by their first bytes, but cannot read by itself.
_UNREADABLE = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
# Photographs that Pillow does not open: reading them names them, where to pass over them would lose them.
_CAMERA = {
    ".arw", ".cr2", ".cr3", ".dng", ".heic", ".heics", ".heif", ".hif", ".jxl", ".nef", ".orf", ".raf", ".rw2",
}  # fmt: skip
# Parts of one dataset for cross-validation, or as they were downloaded.
_PART = re.compile(r"(fold|part|batch|shard|chunk|set|disk|zip)[\W_]*\d+")
NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The image files of a folder.

    files: paths in order for each of SPLITS that is there, by class name; `train` alone where the folder is not split.
    left_out: one sentence on what was passed over; empty where nothing was.
    """

    files: Mapping[str, Mapping[str, Sequence[Path]]]
    left_out: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of all splits, sorted."""
        return tuple(sorted({name for by_class in self.files.values() for name in by_class}))


@dataclass(kw_only=True)
class _LeftOut:
    """What a walk through a folder passed over."""

    hidden: set[Path] = field(default_factory=set)
    other: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)

    def sentence(self, root: Path) -> str:
        parts = [
            _counted(self.other, "file that is no image", "files that are no images", root),
            _counted(self.images, "image outside the class folders", "images outside the class folders", root),
            _counted(self.folders, "folder without images in it", "folders without images in it", root),
            f"{len(self.hidden)} hidden" if self.hidden else "",
        ]
        told = "; ".join(part for part in parts if part)
        return f"left out of {printable(root)}: {told}" if told else ""


def find(root: Path) -> Layout:
    """Find splits, classes and images below `root`; no image is decoded.

    Classes are folders, directly below `root` or below folders for the splits, whose names may be written in many
    ways (`Training`, `valid`, `TEST`, `train_images`); a class folder may hold further folders. Splits may also lie
    within each class. A folder that only wraps the rest is passed through, as is `images/` next to `annotations/`.
    Hidden files and folders and what opscore wrote itself are left out. Raises ValueError where there are fewer than
    two classes, or where images lie where no class can be told.
    """
    left = _LeftOut()
    start = _unwrapped(root, left)
    folders = _folders(start, left)
    by_split = _by_split(folders)
    if by_split:
        _note_images(start, left)
        left.folders += [folder for folder in folders if folder not in by_split.values()]
        files = {split: _classes(_unwrapped(folder, left, split), left) for split, folder in by_split.items()}
    else:
        _check_no_parts(folders, root)
        files = _splits_within(_classes(start, left), start)
    layout = Layout(files=files, left_out=left.sentence(root))
    _check(layout, root, left)
    return layout


def _check(layout: Layout, root: Path, left: _LeftOut) -> None:
    shown, names = printable(root), layout.class_names
    if len(names) < 2:
        where = f"{len(left.images)} images directly" if left.images else f"{', '.join(names) or 'none'}"
        raise ValueError(
            f"{shown} must have one folder with images for each of at least 2 classes, got {where}: make one folder "
            "for each class and put its images there"
        )
    if "train" not in layout.files:
        there = " and ".join(layout.files)
        raise ValueError(
            f"{shown} must hold a folder train with the class folders, got {there} alone: add train, or move the class "
            "folders up"
        )
    for split in layout.files:
        if absent := [name for name in names if name not in layout.files[split]]:
            other = next(one for one in layout.files if absent[0] in layout.files[one])
            raise ValueError(
                f"{shown} must have the same classes in {' and '.join(layout.files)}, got no image of {absent[0]} in "
                f"{split}, but in {other}: add some, or take the class away"
            )


def _check_no_parts(folders: Sequence[Path], root: Path) -> None:
    """Raise ValueError where each of `fold1`, `fold2`, ... holds the same class folders."""
    if len(folders) < 2 or not all(_PART.fullmatch(one.name.casefold()) for one in folders):
        return
    within = [{one.name for one in _entries(folder) if one.is_dir()} for folder in folders]
    if len(within[0]) > 1 and all(names == within[0] for names in within):
        first, last = (printable(Path(one.name)) for one in (folders[0], folders[-1]))
        raise ValueError(
            f"{printable(root)} must have one folder for each class, got {first} to {last} that hold the same folders "
            f"{listed(sorted(within[0]))}: name one of them test and join the others as train"
        )


def _by_split(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders of the splits. Empty where the folders are classes, one of which may be called `train`."""
    found = {split: [one for one in folders if split == split_of(one.name)] for split in SPLITS}
    if not any(found.values()):
        return _by_last_word(folders)
    if twice := next((ones for ones in found.values() if len(ones) > 1), None):
        raise ValueError(
            f"{printable(twice[0].parent)} must hold one folder for each split, got {printable(Path(twice[0].name))} "
            f"and {printable(Path(twice[1].name))}: join them, or take one away"
        )
    there = {split: ones[0] for split, ones in found.items() if ones}
    # With pictures directly in it, a folder is a class.
    holding = [one for one in there.values() if any(_is_image(path) for path in _entries(one) if path.is_file())]
    if holding and len(there) == len(folders):
        raise ValueError(
            f"{printable(holding[0])} must hold one folder for each class, got images directly: make the class folders "
            "and put the images there"
        )
    return {} if holding or (len(there) == 1 and len(folders) > 1) else there


def _by_last_word(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders such as `seg_train` and `seg_test`: one for a split, train among them, no picture directly in any."""
    found: dict[str, Path] = {}
    for one in folders:
        word = _LAST_WORD.search(one.name)
        split = split_of(word[0]) if word else None
        if split is None:
            continue
        if split in found or any(_is_image(path) for path in _entries(one) if not path.is_dir()):
            return {}
        found[split] = one
    return found if "train" in found and len(found) > 1 else {}


def split_of(name: str) -> str | None:
    """The split that a folder's name stands for; None for any other name."""
    return next((split for split, pattern in _SPLIT.items() if pattern.fullmatch(name.casefold())), None)


def _classes(folder: Path, left: _LeftOut) -> dict[str, list[Path]]:
    _note_images(folder, left)
    found: dict[str, list[Path]] = {}
    for one in _folders(folder, left):
        # A link to the folder of all classes would give one class the images of the others.
        if files := list(_images(one, left, frozenset({_identity(folder)}))):
            found.setdefault(class_name(one), []).extend(files)
        else:
            left.folders.append(one)
    return found


def _splits_within(classes: Mapping[str, Sequence[Path]], root: Path) -> dict[str, dict[str, list[Path]]]:
    """Classes whose images all lie in folders for splits, by split; else all as one `train`."""
    found: dict[str, dict[str, list[Path]]] = {}
    for name, files in classes.items():
        for file in files:
            below = file.relative_to(root).parts[1:-1]
            split = split_of(below[0]) if below else None
            if split is None:
                return {"train": {name: list(files) for name, files in classes.items()}}
            found.setdefault(split, {}).setdefault(name, []).append(file)
    if "train" not in found or len(found) < 2:
        return {"train": {name: list(files) for name, files in classes.items()}}
    return {split: found[split] for split in SPLITS if split in found}


def class_name(folder: Path) -> str:
    """A folder's name as text, its accents composed as Linux and Windows write them."""
    return unicodedata.normalize("NFC", printable(Path(folder.name)))


def _unwrapped(folder: Path, left: _LeftOut, split: str | None = None) -> Path:
    """The folder, or the one that it merely wraps. split: which one it is the folder of, if any."""
    while True:
        entries = list(_entries(folder))
        folders = [one for one in entries if one.is_dir()]
        if any(_is_image(one) for one in entries if not one.is_dir()):
            return folder
        pictures = [one for one in folders if _IMAGES.fullmatch(one.name.casefold())]
        notes = [one for one in folders if _NOTES.fullmatch(one.name.casefold())]
        inner = folders[0] if len(folders) == 1 else pictures[0] if len(pictures) == 1 and len(notes) > 0 else None
        if inner is None or len(folders) > 1 + (len(notes) if inner in pictures else 0):
            return folder
        if split_of(inner.name) not in (None, split) or not any(one.is_dir() for one in _entries(inner)):
            return folder
        left.folders += [one for one in folders if one != inner]
        left.other += [one for one in entries if not one.is_dir()]
        folder = inner


def _folders(folder: Path, left: _LeftOut) -> list[Path]:
    left.hidden.update(folder / name for name in _names(folder) if is_hidden(name))
    return [one for one in _entries(folder) if one.is_dir()]


def _note_images(folder: Path, left: _LeftOut) -> None:
    for one in _entries(folder):
        if not one.is_dir():
            (left.images if _is_image(one) else left.other).append(one)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _images(folder: Path, left: _LeftOut, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """All images at any depth, in the order of their names; links are followed, but to no folder `above`."""
    this = _identity(folder)
    if this in above:
        left.folders.append(folder)
        return
    left.hidden.update(folder / name for name in _names(folder) if is_hidden(name))
    for one, is_folder in _visible(folder):
        if is_folder:
            yield from _images(one, left, above | {this})
        elif _is_image(one):
            yield one
        else:
            left.other.append(one)


def _entries(folder: Path) -> Iterator[Path]:
    """What is visible in a folder, in the order of names."""
    return (one for one, _ in _visible(folder))


def _visible(folder: Path) -> Iterator[tuple[Path, bool]]:
    """The same, each with whether it is a folder: a listing tells that without a look at each of 200,000 files."""
    for entry in _listing(folder):
        if not is_hidden(entry.name):
            path, is_folder = folder / entry.name, entry.is_dir() if not entry.is_symlink() else Path(entry).is_dir()
            if not (is_folder and _is_product(path)):
                yield path, is_folder


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in _listing(folder)]


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except PermissionError as error:
        raise ValueError(f"{printable(folder)} must be readable, got no permission: chmod a+rx the folder") from error
    except OSError as error:
        raise ValueError(f"{printable(folder)} must be readable, got: {error.strerror}") from error


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's pictures: hidden, or left behind by a program."""
    return name.startswith(".") or name.casefold() in _HIDDEN


def _is_product(path: Path) -> bool:
    """Whether a folder was written by opscore or MLflow."""
    return path.name in _PRODUCTS or any((path / name).exists() for name in _PRODUCT_FILES)


def _is_image(path: Path) -> bool:
    """Whether a file is to be read as an image: by its suffix, or, where that says nothing, by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in _unreadable():
        return False
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:  # Such as a link to nothing, which may have been a whole class.
        raise unreadable(path, error) from error
    # To open a pipe would wait for ever.
    if not regular or suffix in _readable():
        return regular
    try:
        with Image.open(path) as image:
            return image.format not in _UNREADABLE
    except Exception:  # noqa: BLE001 (whatever it is, it is no image)
        return False


@cache
def _readable() -> frozenset[str]:
    known = Image.registered_extensions()
    opened = {suffix for suffix, format in known.items() if format in Image.OPEN and format not in _UNREADABLE}
    return frozenset(opened | _CAMERA)


@cache
def _unreadable() -> frozenset[str]:
    """Suffixes that need no look into the file."""
    known = Image.registered_extensions()
    text = {".txt", ".csv", ".json", ".xml", ".md", ".html", ".yaml", ".yml", ".npy", ".npz", ".zip", ".tar", ".py"}
    return frozenset({suffix for suffix, format in known.items() if format in _UNREADABLE} | text)


def _counted(paths: Sequence[Path], one: str, several: str, root: Path) -> str:
    if not paths:
        return ""
    named = [printable(path.relative_to(root)) for path in paths[:NAMED]]
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return f"{len(paths)} {one if len(paths) == 1 else several} ({', '.join(named)}{more})"
