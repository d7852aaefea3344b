"""A folder of image files, one subfolder a class, read by Keras."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines import checks
from pipelines.datasets.base import Arrays, Dataset, stratified_split

# What tf_keras.utils.image_dataset_from_directory reads; it passes over other files.
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


@dataclass(frozen=True, kw_only=True)
class Folder(Dataset):
    """Image files of any size, resized to squares.

    path: folder with `train/` and `test/`, each with one subfolder a class, or with class folders directly.
    image_size: side in pixels to which every image is resized, bilinearly; proportions are not kept.
    test_fraction: part held out for testing, in (0, 1); of no effect where there is a `test/`.
    """

    path: str = field(metadata={"fingerprint": False})
    image_size: int
    test_fraction: float = 0.2

    def __post_init__(self) -> None:
        """Check the fields."""
        if not isinstance(self.path, str) or not self.path:
            raise ValueError(f"dataset.path must name a folder of images, got {self.path!r}: set dataset.path=<folder>")
        super().__post_init__()
        checks.whole("dataset.image_size", self.image_size, least=8)
        checks.fraction("dataset.test_fraction", self.test_fraction)

    @property
    def default_name(self) -> str:
        """The folder's name."""
        return self._root.name

    def preflight(self) -> None:
        """Check that every class has images and that training and testing have the same classes."""
        if not self._root.is_dir():
            raise FileNotFoundError(
                f"dataset.path must name an existing folder, got {self.path}: correct it or create the folder"
            )
        if not self._is_split():
            class_folders(self._root)
            return
        train, test = class_folders(self._root / "train"), class_folders(self._root / "test")
        if different := sorted(set(train) ^ set(test)):
            side = "train" if different[0] in train else "test"
            raise ValueError(
                f"{self._root} must have the same classes in train and test, got {different[0]} only in "
                f"{side}: add it to the other or take it away"
            )

    def _read(self) -> Arrays:
        self.preflight()
        if self._is_split():
            class_names = class_folders(self._root / "train")
            x_train, y_train = read_images(self._root / "train", class_names, self.image_size)
            x_test, y_test = read_images(self._root / "test", class_names, self.image_size)
        else:
            class_names = class_folders(self._root)
            images, labels = read_images(self._root, class_names, self.image_size)
            rest, tested = stratified_split(
                labels, self.test_fraction, seed=self.split_seed, field="dataset.test_fraction"
            )
            x_train, y_train, x_test, y_test = images[rest], labels[rest], images[tested], labels[tested]
        return Arrays(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, class_names=class_names)

    @property
    def _root(self) -> Path:
        return Path(self.path).expanduser().absolute()

    def _is_split(self) -> bool:
        """Whether there are `train/` and `test/`. Raises ValueError if one of them has lost the other."""
        there = [name for name in ("train", "test") if (self._root / name).is_dir()]
        # A class may well be called `train`: only a folder of folders is half of a split.
        if len(there) == 1 and subfolders(self._root / there[0]):
            raise ValueError(
                f"{self._root} must hold both train and test, or class folders only, got {there[0]} alone: "
                "add the other, or move the class folders up"
            )
        return len(there) == 2


def subfolders(folder: Path) -> tuple[str, ...]:
    """Names of the folders in `folder`, sorted, hidden ones left out."""
    return tuple(sorted(each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")))


def class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in `folder`. Raises ValueError for fewer than two, or one without images."""
    names = subfolders(folder)
    if len(names) < 2:
        raise ValueError(
            f"{folder} must have subfolders for at least 2 classes, got {', '.join(names) or 'none'}: "
            "make one folder for each class and put its images there"
        )
    for name in names:
        if not any(each.suffix.lower() in EXTENSIONS for each in (folder / name).rglob("*")):
            raise ValueError(
                f"{folder / name} must hold images ({', '.join(EXTENSIONS)}), got none: "
                "put some there or take the folder away"
            )
    return names


def read_images(
    folder: Path, class_names: Sequence[str], size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """All images, uint8 RGB (n, size, size, 3), and their labels (n,), in the order of their paths.

    Raises ValueError, naming the file, for one that cannot be decoded.
    """
    import tensorflow as tf
    import tf_keras

    source = tf_keras.utils.image_dataset_from_directory(
        str(folder),
        class_names=list(class_names),
        batch_size=None,
        image_size=(size, size),
        shuffle=False,
    )
    files: list[str] = source.file_paths
    images = np.empty((len(files), size, size, 3), np.uint8)
    labels = np.empty(len(files), np.int64)
    read = 0
    try:
        for pixels, label in source.as_numpy_iterator():
            images[read], labels[read] = np.clip(np.rint(pixels), 0, 255), label
            read += 1
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"{files[read]} must be a readable image, got {error.message.splitlines()[0]}: "
            "save it again or take it away"
        ) from error
    return images, labels
