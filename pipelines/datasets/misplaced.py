"""Refuses folders that are taken for classes, but are parts, splits or copies of a dataset, or hold one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path

from pipelines.datasets import listing
from pipelines.datasets.picture import printable
from pipelines.datasets.split_names import SPLITS, split_in, split_of
from pipelines.system.words import some

# Parts of one dataset for cross-validation, or as they were downloaded.
_PART = re.compile(r"(.*[\W_])?(fold|part|batch|shard|chunk|set|disk|zip|images?)[\W_]*\d+")
# Folders around a dataset that is part of another folder.
MAX_WRAPPERS = 3


def check_no_parts(folders: Sequence[Path], root: Path) -> None:
    """Raise ValueError where each of `fold1`, `fold2`, ... holds the same class folders."""
    parts = [one for one in folders if is_part(one.name)]
    if len(parts) < 2 or any(listing.holds_images(one) for one in folders if one not in parts):
        return
    folders = [one for one in parts if listing.holds_images(one)]
    if len(folders) < 2:
        return
    within = [_names(listing.folders(folder)) for folder in folders]
    if len(within[0]) > 1 and all(names == within[0] for names in within):
        first, last = (printable(Path(one.name)) for one in (folders[0], folders[-1]))
        raise ValueError(
            f"{printable(root)} must have one folder for each class, got {first} to {last} that hold the same folders "
            f"{some(sorted(within[0]))}: name one of them test and join the others as train"
        )


def is_part(name: str) -> bool:
    """Whether parts of a dataset are called like that, as `fold1` or `images_part_2`."""
    return _PART.fullmatch(name.casefold()) is not None


def check_no_splits(folders: Sequence[Path], root: Path) -> None:
    """Raise ValueError where names of folders differ only in the split, as `trainA` and `testA`."""
    alike: dict[tuple[str, ...], dict[str, Path]] = {}
    for one in filter(listing.holds_images, folders):
        split, others = split_in(one.name)
        # `test_board` next to `other` is a class.
        if split is None or not others:
            return
        alike.setdefault(others, {}).setdefault(split, one)
    if by_split := next((found for found in alike.values() if len(found) > 1), None):
        first, second = [split for split in SPLITS if split in by_split][:2]
        given = " and ".join(printable(Path(by_split[split].name)) for split in (first, second))
        raise ValueError(
            f"{printable(root)} must hold class folders or folders of the splits, got {given}, which look like "
            f"splits: make the folders {first} and {second} with a folder for each class in both, or rename one if "
            "both are classes"
        )


def check_no_dataset(folders: Sequence[Path], root: Path) -> None:
    """Raise ValueError where one folder of several is a dataset of its own, with folders of splits for its classes."""
    for one in folders if len(folders) > 1 else ():
        inner, below = _inside(one)
        splits = [each for each in below if split_of(each.name)]
        classes = {each: [] if listing.has_images(each) else listing.folders(each) for each in splits}
        if len(splits) > 1 and all(len(found) > 1 for found in classes.values()):
            names = " and ".join(printable(Path(each.name)) for each in splits)
            raise ValueError(
                f"{printable(root)} must hold class folders or folders of the splits, got "
                f"{printable(one.relative_to(root))}, which holds {names} with class folders: set "
                + shlex.quote(f"dataset.path={printable(inner)}")
            )


def check_no_copy(folders: Sequence[Path]) -> None:
    """Raise ValueError where one of the class folders holds class folders of the others' names, and no image itself."""
    siblings = _names(folders)
    for one in folders:
        inner, below = _inside(one)
        again = _names(below)
        # A link may lead to the folder of all classes.
        own = one.name in again
        if len(again) > 1 and again <= siblings and not own and not listing.has_images(inner) and not one.is_symlink():
            names = some([printable(Path(each)) for each in sorted(again)])
            raise ValueError(
                f"{printable(one.parent)} must have one folder for each class, got {printable(Path(one.name))}, which "
                f"holds the folders {names} again: move it away, or rename them if it is a class"
            )


def check_no_stray(splits: Iterable[Path], classes: Sequence[Path]) -> None:
    """Raise ValueError where a folder with images in it also holds the class folders that another split has."""
    inner = {one: _names(listing.folders(one)) for one in splits}
    for one, another in permutations(inner, 2):
        if one in classes and len(same := inner[one] & inner[another]) > 1:
            stray = next(file for file in listing.files(one) if listing.is_image(file))
            names = some([printable(Path(each)) for each in sorted(same)])
            raise ValueError(
                f"{printable(one)} must hold images, as a class, or class folders, as a split, got "
                f"{printable(Path(stray.name))} next to the folders {names}: move the images away, or the folders"
            )


def _names(folders: Sequence[Path]) -> set[str]:
    return {one.name for one in folders}


def _inside(folder: Path) -> tuple[Path, list[Path]]:
    """The folder, or the one that it only wraps, and the folders in it."""
    inner, below = folder, listing.folders(folder)
    # A link may lead back to where it is.
    for _ in range(MAX_WRAPPERS):
        if len(below) == 1 and not listing.has_images(inner):
            inner, below = below[0], listing.folders(below[0])
    return inner, below
