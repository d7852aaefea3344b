"""The layout of a folder of images: its classes, its splits, and what is left out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.datasets import listing
from pipelines.datasets.listing import Skipped
from pipelines.datasets.misplaced import (
    check_no_copy,
    check_no_dataset,
    check_no_parts,
    check_no_splits,
    check_no_stray,
    is_part,
)
from pipelines.datasets.picture import printable
from pipelines.datasets.split_names import SPLITS, split_in, split_of, split_of_last_word
from pipelines.system.names import class_name
from pipelines.system.words import listed, some

Classes = dict[str, list[Path]]
# As in `a_mask.png` and `a_mask_1.png`.
_MASK = re.compile(r"(.+?)[\s_-]*(mask|segmentation|annotation)s?([\s_-]*\d+)?")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The image files of a folder.

    files: paths in order by class name, for each of SPLITS that exists; only `train` where the folder is not split.
    left_out: one sentence on skipped files; empty if there are none. doubts: a sentence for each other meaning that the
    folders may have.
    """

    files: Mapping[str, Mapping[str, Sequence[Path]]]
    left_out: str
    doubts: Sequence[str]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes of all splits, in the order of their folders' own names, as Keras numbers them."""
        firsts = {name: files[0] for by_class in self.files.values() for name, files in by_class.items()}
        return tuple(sorted(firsts, key=lambda name: (_own_name(name, firsts[name]), name)))


def find(root: Path) -> Layout:
    """Find splits, classes and images below `root`; decodes no image.

    Classes are folders, directly below `root` or below folders for the splits, whose names may be written in many
    ways (`Training`, `valid`, `TEST`, `train_images`); a class folder may hold further folders. Splits may also be
    inside each class. A folder that only wraps the rest is passed through, as is `images/` next to `annotations/`.
    Hidden files and folders and opscore's own output are left out. Raises ValueError where there are fewer than
    two classes, or where the class of images is unclear.
    """
    skipped = Skipped()
    start = _unwrapped(root, skipped)
    listing.note_hidden(start, skipped)
    folders = listing.folders(start)
    by_split = _by_split(folders)
    if by_split:
        listing.note_files(start, skipped)
        for folder in folders:
            if folder not in by_split.values():
                skipped.leave(folder)
        files = {split: _classes(_unwrapped(folder, skipped, split), skipped) for split, folder in by_split.items()}
        doubts = []
    else:
        for check in (check_no_parts, check_no_dataset, check_no_splits):
            check(folders, root)
        files = _splits_within(_classes(start, skipped), start)
        doubts = [_variants(files, start), _called_like_splits(files), _called_like_parts(files)]
    doubts.append(_called_like_masks(files))
    layout = Layout(files=files, left_out=skipped.sentence(root), doubts=list(filter(None, doubts)))
    _check(layout, root, start, skipped)
    return layout


def _check(layout: Layout, root: Path, start: Path, skipped: Skipped) -> None:
    if len(layout.class_names) < 2:
        raise _too_few_classes(layout, root, start, skipped)
    if "train" not in layout.files:
        given = " and ".join(layout.files)
        others = [printable(Path(one.name)) for one in skipped.unused if len(listing.folders(one)) > 1]
        mend = "add train, or move the class folders up"
        if others:
            file = next(iter(next(iter(layout.files.values())).values()))[0]
            own = next(part for part in file.relative_to(root).parts if split_of(part))
            mend = f"rename {others[0]} to train, if it is that, or {printable(Path(own))} if both are classes"
        raise ValueError(
            f"{printable(root)} must hold a folder train with the class folders, got {given} alone: {mend}"
        )
    _check_same_classes(layout, f"{printable(root)} must have the same classes in {' and '.join(layout.files)}")


def _too_few_classes(layout: Layout, root: Path, start: Path, skipped: Skipped) -> ValueError:
    wanted = f"{printable(root)} must have one folder with images for each of at least 2 classes"
    folders = listing.folders(start)
    beside = listing.annotation_folders(folders)
    inner = [one for one in folders if one not in beside and not split_of(one.name) and len(listing.folders(one)) > 1]
    if len(inner) == 1:
        path = shlex.quote(f"dataset.path={printable(inner[0])}")
        return ValueError(f"{wanted}, got several folders in {printable(Path(inner[0].name))}: set {path}")
    unread = [one for one in skipped.other if one.parent != start]
    mend = "make one folder for each class and put its images there, as PNG or JPEG"
    if skipped.images:
        given = f"{len(skipped.images)} images directly"
    elif layout.class_names:
        given = layout.class_names[0]
        if skipped.unused:
            others = some(sorted({printable(Path(one.name)) for one in skipped.unused}))
            given, mend = f"{given} without {others}", f"{mend}, or rename {others} if that is a class"
    else:
        given = f"none, but files such as {printable(unread[0].relative_to(root))}" if unread else "none"
    return ValueError(f"{wanted}, got {given}: {mend}")


def _check_same_classes(layout: Layout, wanted: str) -> None:
    """Raise ValueError where a split lacks a class. wanted: the beginning of the sentence."""
    train, names = layout.files["train"], layout.class_names
    for split, by_class in layout.files.items():
        spelt = {name.casefold() for name in train}
        if len(by_class) == 1 and spelt.isdisjoint(name.casefold() for name in by_class):
            raise ValueError(
                f"{wanted}, got all images of {split} in the folder {next(iter(by_class))}: sort them into class "
                "folders, or move them out of the dataset"
            )
    for split, by_class in layout.files.items():
        if absent := [name for name in names if name not in by_class]:
            other = next(one for one in layout.files if absent[0] in layout.files[one])
            raise ValueError(
                f"{wanted}, got no image of {absent[0]} in {split}, but in {other}: add some, or remove the class"
            )


def _by_split(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders of the splits; empty where the folders are classes, one of which may be called `train`."""
    found = {split: [one for one in folders if split == split_of(one.name)] for split in SPLITS}
    if not any(found.values()):
        return _by_last_word(folders)
    # A folder with images directly in it is a class.
    without = {split: [one for one in ones if not listing.has_images(one)] for split, ones in found.items()}
    if twice := next((ones for ones in without.values() if len(ones) > 1), None):
        raise ValueError(
            f"{printable(twice[0].parent)} must hold one folder for each split, got {printable(Path(twice[0].name))} "
            f"and {printable(Path(twice[1].name))}: join them, or remove one"
        )
    by_split = {split: ones[0] for split, ones in found.items() if ones}
    classes = [one for one in by_split.values() if one not in without[str(split_of(one.name))]]
    check_no_stray(by_split.values(), classes)
    # `dev1` and `dev2` alone may be classes; `train1`, `train2` and `test` are not.
    beside = [one for one in folders if (split_of(one.name) is None if len(by_split) > 1 else one not in classes)]
    if classes and not any(listing.holds_images(one) for one in beside):
        raise ValueError(
            f"{printable(classes[0])} must hold one folder for each class, got images directly: make the class folders "
            "and put the images there, or, if their classes are not known, move it out of the dataset"
        )
    split = [one for one in by_split.values() if one not in classes and len(listing.folders(one)) > 1]
    # Where train is missing, another folder may be it: that is said later.
    others = [one for one in folders if one not in by_split.values() and len(listing.folders(one)) > 1]
    if split and others and not classes and "train" not in by_split:
        return by_split
    # A folder without images, such as one of opscore's or of notebooks, is no class.
    unnamed = (one for one in folders if one not in by_split.values())
    another = next(filter(listing.holds_images, unnamed), None)
    other = next((one for one in (*classes, *by_split.values(), another) if one and one not in split), None)
    if split and other and (classes or len(by_split) == 1):
        names = some([printable(Path(one.name)) for one in listing.folders(split[0])])
        raise ValueError(
            f"{printable(split[0].parent)} must hold either class folders or folders of the splits, got "
            f"{printable(Path(split[0].name))} with the folders {names} in it, next to {printable(Path(other.name))}: "
            f"move {printable(Path(other.name))} away, or the folders out of {printable(Path(split[0].name))}"
        )
    return {} if classes or (len(by_split) == 1 and another) else by_split


def _by_last_word(folders: Sequence[Path]) -> dict[str, Path]:
    """Folders such as `seg_train` and `seg_test`: one for each split, train among them, no image directly in any."""
    found: dict[str, Path] = {}
    for one in folders:
        split = split_of_last_word(one.name)
        if split is None:
            continue
        if split in found or listing.has_images(one):
            return {}
        found[split] = one
    return found if "train" in found and len(found) > 1 else {}


def _classes(folder: Path, skipped: Skipped) -> Classes:
    listing.note_files(folder, skipped)
    listing.note_hidden(folder, skipped)
    there = listing.folders(folder)
    check_no_copy(there)
    beside = listing.annotation_folders(there)
    # Next to other classes, a folder called like annotations may be one.
    if beside and sum(listing.holds_images(one) for one in there if one not in beside) > 1:
        beside = []
    found: Classes = {}
    of: dict[str, Path] = {}
    for one in there:
        if one in beside:
            skipped.leave(one)
            continue
        # A link to the folder of all classes would give one class the images of the others.
        files = list(listing.images(one, skipped, frozenset({listing.inode(folder)})))
        if files := files or listing.sources(one, skipped):
            name = class_of(one)
            if of.setdefault(name, one) is not one:
                raise ValueError(
                    f"{printable(folder)} must have one folder for each class, got {of[name].name!r} and {one.name!r}: "
                    "move the images of one into the other, or rename one"
                )
            found[name] = files
        else:
            skipped.folders.append(one)
    return found


def _splits_within(classes: Classes, root: Path) -> dict[str, Classes]:
    """Images by split, where all images of each class are in folders for splits; else all as one `train`.

    Raises ValueError where only some are, although a class has images in folders for training and for testing.
    """
    found: dict[str, Classes] = {split: {} for split in SPLITS}
    elsewhere: list[Path] = []
    for name, files in classes.items():
        for file in files:
            below = file.relative_to(root).parts[1:-1]
            split = split_of(below[0]) if below else None
            if split is None:
                elsewhere.append(file)
            else:
                found[split].setdefault(name, []).append(file)
    found = {split: by_class for split, by_class in found.items() if by_class}
    if "train" not in found or len(found) == 1:
        return {"train": classes}
    both = {name for split, by_class in found.items() if split != "train" for name in by_class} & found["train"].keys()
    if elsewhere and both:
        raise ValueError(
            f"{printable(root)} must have all images of its classes in folders of the splits, as those of "
            f"{printable(Path(min(both)))} are in {' and '.join(found)}, got "
            f"{printable(elsewhere[0].relative_to(root))}: move it into one of them, or out of the dataset"
        )
    return {"train": classes} if elsewhere else found


def _variants(files: Mapping[str, Classes], start: Path) -> str:
    """A sentence where `color` and `gray` each hold the same folders `cat` and `dog`; else empty.

    Not an error: `cat` and `dog` may as well each hold a folder for each camera.
    """
    if len(files) > 1:
        return ""
    inner: dict[str, set[str]] = {}
    for file in (file for of_class in files.get("train", {}).values() for file in of_class):
        name, *below = file.relative_to(start).parts[:-1]
        inner.setdefault(name, set()).add(below[0] if below else "")
    first, *others = inner.values() or [set()]
    if not others or len(first) < 2 or "" in first or any(one != first for one in others):
        return ""
    names = sorted(inner)
    shown = listed([printable(Path(one)) for one in names])
    # To train on the images of `new_test` is never the advice.
    plain = next((name for name in names if not split_in(name)[0]), None)
    mend = "join those of each name, or call the outer folders train and test"
    if plain is not None:
        mend = "set " + shlex.quote(f"dataset.path={printable(start / plain)}")
    return (
        f"{shown} are the classes, and each holds the same {len(first)} folders "
        f"{some([printable(Path(one)) for one in sorted(first)])}: if those are the classes, {mend}"
    )


def _called_like_splits(files: Mapping[str, Classes]) -> str:
    """A sentence where classes have the names of splits; else empty."""
    names = [name for name in files.get("train", {}) if split_of(name)]
    if len(files) > 1 or not names:
        return ""
    return (
        f"{some(names)}: taken for {'a class' if len(names) == 1 else 'classes'}, not for "
        f"{'a split' if len(names) == 1 else 'splits'}, which must hold a folder for each class and nothing else"
    )


def _called_like_parts(files: Mapping[str, Classes]) -> str:
    """A sentence where the names of the classes differ only in the number of a part; else empty."""
    names = list(files.get("train", {}))
    alike = {name.rstrip("0123456789") for name in names}
    if len(files) > 1 or len(names) < 2 or len(alike) > 1 or not all(map(is_part, names)):
        return ""
    return (
        f"{some(names)}: taken for classes, but called like parts of one dataset: if they are, sort the images into "
        "a folder for each class"
    )


def _called_like_masks(files: Mapping[str, Classes]) -> str:
    """A sentence where images are called like the masks of others next to them, as `a_mask.png`; else empty."""
    every = [path for by_class in files.values() for of_class in by_class.values() for path in of_class]
    named = {path: found[1] for path in every if (found := _MASK.fullmatch(path.stem.casefold()))}
    parents = {path.parent for path in named}
    stems = {(path.parent, path.stem.casefold()) for path in every if path.parent in parents} if named else set()
    masks = [path for path, of in named.items() if (path.parent, of) in stems]
    if not masks:
        return ""
    return (
        f"images such as {printable(Path(masks[0].name))} ({len(masks):,} in all) are called like masks of others, and "
        "are taken for images of their class: if they are masks, move them away"
    )


def class_of(folder: Path) -> str:
    """The class of a folder, by its name."""
    return class_name(printable(Path(folder.name)))


def _own_name(name: str, file: Path) -> str:
    """The name of the folder of a class, of which a file is in it: accents may be characters of their own there."""
    return next((part for part in reversed(file.parts[:-1]) if class_of(Path(part)) == name), name)


def _unwrapped(folder: Path, skipped: Skipped, split: str | None = None) -> Path:
    """The folder, or the one that it only wraps. split: the split that the folder is for, if any."""
    while True:
        folders = listing.folders(folder)
        if listing.has_images(folder):
            return folder
        beside = listing.annotation_folders(folders)
        left = [one for one in folders if one not in beside]
        if len(left) != 1:
            return folder
        inner = left[0]
        if split_of(inner.name) not in (None, split) or not listing.folders(inner):
            return folder
        for one in beside:
            skipped.leave(one)
        skipped.other += listing.files(folder)
        folder = inner
