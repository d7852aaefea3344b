"""Folders of images as the user sees them: without hidden files, opscore's own output, and files that are no images."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

from pipelines.datasets.picture import RAW, printable, unreadable
from pipelines.system.places import exists

# Left behind by desktops, editors and archives, in addition to all names that begin with a dot.
_HIDDEN = {
    "__macosx", "thumbs.db", "desktop.ini", "@eadir", "__pycache__", "$recycle.bin", "lost+found",
    "system volume information",
}  # fmt: skip
# What opscore, Hydra and MLflow write into folders of these names. The name alone may be a class's.
_PRODUCTS = {
    "outputs": (".hydra", "*/.hydra", "*/*/.hydra", "*/*/*.log"),
    "multirun": ("multirun.yaml", "*/multirun.yaml", "*/*/multirun.yaml", "*/*/*/.hydra"),
    "mlruns": ("mlflow.db", "artifacts", "*/meta.yaml", "*/*/artifacts", "*/models/*/artifacts"),
    "mlartifacts": ("*/*/artifacts", "*/models/*/artifacts"),
}
# Files and folders that are together in a folder of any name only where opscore or MLflow wrote it.
_TOGETHER = (("mlflow.db", "artifacts"), ("MODEL_CARD.md", "model.tflite"), (".hydra", "opscore.log"))
# Written with figures next to them: a report, and the sensitivities of layers.
_SENSITIVITIES = ("sensitivity.json", "sensitivity.png")
_REPORT_TITLE = b"<title>opscore report"
# Formats that Pillow recognizes by their first bytes, but cannot read by itself.
_UNREADABLE = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
_TEXT = {".txt", ".csv", ".json", ".xml", ".md", ".html", ".yaml", ".yml", ".npy", ".npz", ".zip", ".tar", ".py"}
# Photographs that are not read. They count as images, so that reading refuses them by name: skipping them would lose
# them silently.
_UNOPENED = {*RAW, ".heic", ".heics", ".heif", ".hif", ".jxl"}
# Medical images and drawings, which may also lie next to the images that were made from them.
_SOURCES = {".dcm", ".dicom", ".exr", ".mha", ".nii", ".nrrd", ".svg"}
MAX_NAMED = 3
_IMAGES = re.compile(r"(jpeg|png)?im(age|g)s?|pictures|pics|photos")
_ANNOTATIONS = re.compile(r"(annot?(ation)?|label|mask|trimap|segmentation|bbox|xml|json|meta(data)?|list)s?")


@dataclass(kw_only=True)
class Skipped:
    """Files and folders that a walk through a folder has skipped."""

    hidden: set[Path] = field(default_factory=set)
    other: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    unused: list[Path] = field(default_factory=list)
    products: set[Path] = field(default_factory=set)

    def sentence(self, root: Path) -> str:
        """Number and first names of the skipped files and folders; empty if there are none."""
        parts = [
            _counted(self.other, "file that is no image", "files that are no images", root),
            _counted(self.images, "image outside the class folders", "images outside the class folders", root),
            _counted(self.folders, "folder without images in it", "folders without images in it", root),
            _counted(self.unused, "folder of other images", "folders of other images", root),
            _counted(sorted(self.products), "folder of opscore's output", "folders of opscore's output", root),
            f"{len(self.hidden)} hidden" if self.hidden else "",
        ]
        counts = "; ".join(filter(None, parts))
        return f"left out of {printable(root)}: {counts}" if counts else ""

    def leave(self, folder: Path) -> None:
        """Count a folder as skipped, with images or without."""
        (self.unused if holds_images(folder) else self.folders).append(folder)


def entries(folder: Path) -> list[tuple[Path, bool]]:
    """The visible entries of a folder in the order of their names, and whether each is a folder.

    The listing has that information: looking at each of 200,000 files would be slow.
    """
    found = []
    for entry in _listing(folder):
        if not is_hidden(entry.name):
            path, is_folder = folder / entry.name, entry.is_dir() if not entry.is_symlink() else Path(entry).is_dir()
            if not (is_folder and _is_product(path)):
                found.append((path, is_folder))
    return found


def folders(folder: Path) -> list[Path]:
    """The visible folders in a folder."""
    return [path for path, is_folder in entries(folder) if is_folder]


def files(folder: Path) -> list[Path]:
    """The visible entries of a folder that are not folders."""
    return [path for path, is_folder in entries(folder) if not is_folder]


def has_images(folder: Path) -> bool:
    """Whether a folder has images directly in it."""
    return any(map(is_image, files(folder)))


def holds_images(folder: Path) -> bool:
    """Whether a folder, or any in it, has images."""
    try:
        return next(images(folder, Skipped(), frozenset()), None) is not None
    except ValueError:  # Of a file that cannot be read, which nobody wants to read here.
        return True


def note_hidden(folder: Path, skipped: Skipped) -> None:
    """Count the hidden entries of a folder as skipped, and those that opscore wrote."""
    for entry in _listing(folder):
        if is_hidden(entry.name):
            skipped.hidden.add(folder / entry.name)
        elif entry.is_dir() and _is_product(folder / entry.name):
            skipped.products.add(folder / entry.name)


def note_files(folder: Path, skipped: Skipped) -> None:
    """Count the visible files of a folder as skipped."""
    for path in files(folder):
        (skipped.images if is_image(path) else skipped.other).append(path)


def inode(folder: Path) -> tuple[int, int]:
    """Device and inode: equal for all links to one folder."""
    found = folder.stat()
    return found.st_dev, found.st_ino


def images(folder: Path, skipped: Skipped, above: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """All images at any depth, in the order of their names.

    above: inodes of the folders above. Links are followed, but not to one of those.
    """
    this = inode(folder)
    if this in above:
        skipped.folders.append(folder)
        return
    note_hidden(folder, skipped)
    there = entries(folder)
    beside = annotation_folders([path for path, is_folder in there if is_folder])
    for path, is_folder in there:
        if path in beside:
            skipped.leave(path)
        elif is_folder:
            yield from images(path, skipped, above | {this})
        elif is_image(path):
            yield path
        else:
            skipped.other.append(path)


def sources(folder: Path, skipped: Skipped) -> list[Path]:
    """Files in a folder, skipped so far, that would be its images if Pillow opened them. They are not skipped then."""
    found = [one for one in skipped.other if one.is_relative_to(folder) and one.suffix.lower() in _SOURCES]
    skipped.other = [one for one in skipped.other if one not in found]
    return found


def annotation_folders(there: Sequence[Path]) -> list[Path]:
    """Of the folders in a folder, those of masks, labels and the like next to the one of the images they are about."""
    pictures = [one for one in there if _IMAGES.fullmatch(one.name.casefold())]
    return [one for one in there if _ANNOTATIONS.fullmatch(one.name.casefold())] if len(pictures) == 1 else []


def is_hidden(name: str) -> bool:
    """Whether a name is hidden or a leftover of a program."""
    return name.startswith(".") or name.casefold() in _HIDDEN


def is_image(path: Path) -> bool:
    """Whether a file is an image: by its suffix or, where that is inconclusive, by its first bytes."""
    readable, unread = _suffixes()
    suffix = path.suffix.lower()
    if suffix in unread:
        return False
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as error:  # Such as a dangling link, which may have been a whole class.
        raise unreadable(path, error) from error
    # Opening a pipe would wait forever.
    if not regular or suffix in readable:
        return regular
    try:
        with Image.open(path) as image:
            return image.format not in _UNREADABLE
    except Exception:  # noqa: BLE001 (Pillow's plugins raise all kinds of errors)
        return False


@cache
def _suffixes() -> tuple[frozenset[str], frozenset[str]]:
    """Suffixes of images, and of files that are none."""
    known = Image.registered_extensions()
    opened = {suffix for suffix, kind in known.items() if kind in Image.OPEN and kind not in _UNREADABLE}
    return frozenset(opened | _UNOPENED), frozenset(
        {suffix for suffix, kind in known.items() if kind in _UNREADABLE} | _TEXT
    )


def _listing(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except PermissionError as error:
        raise ValueError(f"{printable(folder)} must be readable, got no permission: chmod a+rx the folder") from error
    except OSError as error:
        raise ValueError(f"{printable(folder)} must be readable, got: {error.strerror}") from error


def _is_product(path: Path) -> bool:
    """Whether a folder was written by opscore or MLflow.

    One with images directly in it is not, unless they are figures of a report or of the sensitivities of layers.
    """
    found = any(any(path.glob(pattern)) for pattern in _PRODUCTS.get(path.name, ())) or any(
        _holds(path, names) for names in _TOGETHER
    )
    figures = _is_report(path) or _holds(path, _SENSITIVITIES)
    return figures or (found and not _has_image_files(path))


def _holds(folder: Path, names: Sequence[str]) -> bool:
    """Whether a folder has all of these entries; False where it may not be read."""
    return all(exists(folder / name) for name in names)


def _is_report(folder: Path) -> bool:
    try:
        with (folder / "report.html").open("rb") as page:
            return _REPORT_TITLE in page.read(1000)
    except OSError:
        return False


def _has_image_files(folder: Path) -> bool:
    """As `has_images`, without a look at folders in it; False where it may not be read."""
    try:
        found = _listing(folder)
    except ValueError:
        return False
    return any(entry.is_file() and not is_hidden(entry.name) and is_image(folder / entry.name) for entry in found)


def _counted(paths: Sequence[Path], one: str, several: str, root: Path) -> str:
    if not paths:
        return ""
    named = [printable(path.relative_to(root)) for path in paths[:MAX_NAMED]]
    more = f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else ""
    return f"{len(paths)} {one if len(paths) == 1 else several} ({', '.join(named)}{more})"
