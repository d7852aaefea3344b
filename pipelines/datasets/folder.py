"""A folder of image files with one subfolder for each class, read by Pillow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipelines.datasets.base import ImageData, SplitDataset
from pipelines.datasets.decoded import Files, image_data
from pipelines.datasets.layout import Layout, class_of, find
from pipelines.datasets.picture import printable
from pipelines.system import checks, names
from pipelines.system.places import expanded


@dataclass(frozen=True, kw_only=True)
class Folder(SplitDataset):
    """Image files of any size, resized to squares.

    path: folder of the class folders, or of folders for the splits that hold them (`pipelines/datasets/layout.py`).
    image_size: side in pixels to which every image is resized (`pipelines/datasets/picture.py`).
    """

    path: str = field(metadata={"fingerprint": False})
    image_size: int

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path:
            raise ValueError(
                f"dataset.path must name a folder of images, got {self.path!r}: set for example dataset.path=photos"
            )
        super().__post_init__()
        checks.integer("dataset.image_size", self.image_size, minimum=8)

    @property
    def default_name(self) -> str:
        """The folder's name."""
        return class_of(self._root)

    def preflight(self) -> None:
        """Check that there are classes with images, the same in all splits; no image is decoded."""
        self._chosen(self._found())

    def load(self) -> ImageData:
        """Choose the images of each split, then decode them, or map those that an earlier cell decoded.

        Raises ValueError, naming the file, for one that cannot be read, and for splits and limits that cannot be met.
        """
        layout = self._found()
        chosen = self._chosen(layout)
        data = image_data(chosen, layout.class_names, side=self.image_size, folder=self._root)
        notes = tuple(filter(None, (*layout.doubts, layout.left_out, *data.notes)))
        return replace(data, notes=notes, own_validation="validation" in layout.files)

    @property
    def _root(self) -> Path:
        # A link keeps its own name, unlike with `resolve`.
        return Path(os.path.abspath(expanded(self.path)))  # noqa: PTH100

    def _found(self) -> Layout:
        if self._root.is_file():
            raise ValueError(
                f"dataset.path must name a folder, got the file {printable(Path(self.path))}: unpack an archive and "
                "name its folder, or choose dataset=npz for a file of arrays"
            )
        if not self._root.is_dir():
            raise FileNotFoundError(
                f"dataset.path must name an existing folder, got {printable(Path(self.path))}: correct it or create "
                "the folder"
            )
        return find(self._root)

    def _chosen(self, layout: Layout) -> list[Files]:
        """The files for training, validation and testing, each in random order."""
        names.check_classes(layout.class_names)
        files = {part: _files(by_class, layout.class_names) for part, by_class in layout.files.items()}
        labels = {part: one.labels for part, one in files.items()}
        chosen = self.partition(labels, layout.class_names, self.test_fraction)
        return [files[part][index] for part, index in chosen.values()]


def _files(by_class: Mapping[str, Sequence[Path]], class_names: Sequence[str]) -> Files:
    paths = [path for name in class_names for path in by_class[name]]
    labels = np.repeat(np.arange(len(class_names)), [len(by_class[name]) for name in class_names])
    return Files(paths=paths, labels=labels.astype(np.int64))
