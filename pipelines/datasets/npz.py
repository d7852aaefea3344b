"""Any dataset in one NumPy archive, read without unpickling anything."""

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.datasets.base import ArrayDataset, Arrays

NAMES = ("x_train", "y_train", "x_test", "y_test", "class_names")


@dataclass(frozen=True, kw_only=True)
class Npz(ArrayDataset):
    """The images of an `.npz` file with the arrays x_train, y_train, x_test, y_test and class_names.

    path: the file. x_*: uint8 RGB (n, h, w, 3); y_*: integers (n,), indices into class_names, which is text.
    """

    path: str = field(metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        """Check the fields."""
        if not isinstance(self.path, str) or not self.path:
            raise ValueError(f"dataset.path must name an .npz file, got {self.path!r}: set dataset.path=<file>.npz")
        super().__post_init__()

    @property
    def default_name(self) -> str:
        """The file's name without its ending."""
        return self._file.stem

    def preflight(self) -> None:
        """Check that the file is there and is an archive with the five arrays."""
        if not self._file.is_file():
            raise FileNotFoundError(
                f"dataset.path must name an existing .npz file, got {self.path}: "
                f"write one with numpy.savez and the arrays {', '.join(NAMES)}, or correct the path"
            )
        check_archive(self._file)

    def _read(self) -> Arrays:
        self.preflight()
        return read_archive(self._file)

    @property
    def _file(self) -> Path:
        return Path(self.path).expanduser()


def check_archive(path: Path) -> None:
    """Raise ValueError unless `path` is an archive that lists every array of NAMES; reads no array."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise _damaged(path, error) from error
    if missing := [name for name in NAMES if name not in found]:
        raise ValueError(
            f"{path} must hold the array {missing[0]}, got only {', '.join(found) or 'none'}: "
            f"write it with numpy.savez and the arrays {', '.join(NAMES)}"
        )


def read_archive(path: Path) -> Arrays:
    """Read the arrays of NAMES, whatever their shapes and dtypes.

    Raises ValueError for an archive that lacks one, is damaged, or wants pickled objects.
    """
    check_archive(path)
    with np.load(path, allow_pickle=False) as archive:
        x_train, y_train, x_test, y_test, names = (_read_array(archive, path, name) for name in NAMES)
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(
            f"class_names must be text of one dimension, got {names.dtype} of shape {names.shape}: "
            "write it as np.array(['cat', 'dog'])"
        )
    return Arrays(x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test, class_names=tuple(names.tolist()))


def _read_array(archive: Any, path: Path, name: str) -> npt.NDArray[Any]:
    try:
        array = archive[name]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{name} of {path} must hold plain numbers or text, got pickled Python objects, which could "
                "run code when read: write it again without dtype=object"
            ) from error
        raise _damaged(path, error) from error
    # NumPy hands out the bytes of a member that does not begin like an array.
    if not isinstance(array, np.ndarray):
        raise _damaged(path, f"{name} is not an array")
    return array


def _damaged(path: Path, reason: object) -> ValueError:
    return ValueError(f"{path} must be an intact .npz archive, got damage ({reason}): copy or write it again")
