"""Any dataset in one NumPy archive, read without unpickling anything."""

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.datasets.arrays import ArrayDataset, Arrays
from pipelines.datasets.base import SplitDataset
from pipelines.datasets.labels import as_numbers
from pipelines.datasets.pixels import as_rgb
from pipelines.datasets.roles import assigned
from pipelines.system.places import expanded
from pipelines.system.words import some

NAMES = ("x_train", "y_train", "x_test", "y_test", "class_names")


@dataclass(frozen=True, kw_only=True)
class Npz(SplitDataset, ArrayDataset):
    """The images of an `.npz` file with the arrays x_train, y_train, x_test, y_test and class_names.

    path: the file. x_*: uint8 RGB (n, h, w, 3); y_*: integers (n,), indices into class_names, which is text. Other
    accepted forms: `roles.py`, `pixels.py` and `labels.py`.
    """

    path: str = field(metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path:
            raise ValueError(
                f"dataset.path must name an .npz file, got {self.path!r}: set for example dataset.path=photos.npz"
            )
        super().__post_init__()

    @property
    def default_name(self) -> str:
        """The file's name without its ending."""
        return self._file.stem

    def preflight(self) -> None:
        """Check that the file exists and is an archive with the arrays."""
        if not self._file.is_file():
            raise FileNotFoundError(
                f"dataset.path must name an existing .npz file, got {self.path}: "
                f"write one with numpy.savez and the arrays {', '.join(NAMES)}, or correct the path"
            )
        check_archive(self._file)

    def read_arrays(self) -> Arrays:
        """The arrays of the file. Raises like `preflight` and `read_archive`."""
        self.preflight()
        return read_archive(self._file, self.test_fraction)

    @property
    def _file(self) -> Path:
        return expanded(self.path)


def check_archive(path: Path) -> dict[str, str]:
    """The array of each role (`roles.py`). Raises ValueError for an archive that lacks one; reads no array."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        if path.suffix.lower() != ".npz":
            raise ValueError(
                f"dataset.path must name an .npz file, got {path}, which is none: write the arrays {', '.join(NAMES)} "
                "with numpy.savez"
            ) from error
        raise _damaged(path, error) from error
    by_role = assigned(found)
    wanted = ["x", "y"] if "x" in by_role and "x_train" not in by_role else ["x_train", "y_train"]
    for part in ("test", "validation"):
        if {f"x_{part}", f"y_{part}"} & set(by_role):
            wanted += [f"x_{part}", f"y_{part}"]
    if missing := [role for role in wanted if role not in by_role]:
        raise ValueError(
            f"{path} must hold the array {missing[0]}, got only {some(found, 8) or 'none'}: "
            f"write it with numpy.savez and the arrays {', '.join(NAMES)}"
        )
    return {role: by_role[role] for role in (*wanted, "class_names") if role in by_role}


def read_archive(path: Path, test_fraction: float = 0.2) -> Arrays:
    """Read the arrays, converted to the form that `Arrays` requires where their meaning is unambiguous.

    test_fraction: held out for testing if the file has no test images, in (0, 1).
    Raises ValueError for an archive that lacks an array, is damaged, or needs unpickling.
    """
    by_role = check_archive(path)
    with np.load(path, allow_pickle=False) as archive:
        raw = {name: _read_array(archive, path, name) for name in by_role.values()}
        unused = sorted({name.removesuffix(".npy") for name in archive.files} - set(by_role.values()))
    class_names = raw.get(by_role.pop("class_names", ""))
    images_of = {name: by_role["x" + role[1:]] for role, name in by_role.items() if role[0] == "y"}
    images, done = as_rgb({name: raw[name] for name in images_of.values()})
    sizes = {y: (x, len(images[x])) for y, x in images_of.items()}
    labels, names, named = as_numbers({y: raw[y] for y in images_of}, class_names, sizes)
    if renamed := [f"{name} as {role}" for role, name in by_role.items() if name != role and "_" in role]:
        done.insert(0, f"took {', '.join(renamed)}")
    done += named
    both = images | labels
    arrays: dict[str, Any] = {role if "_" in role else f"{role}_train": both[name] for role, name in by_role.items()}
    if "x_test" not in arrays:
        done.append(f"no test images are there, so {test_fraction:g} of all were held out for testing")
    if unused:
        done.append(f"left out {some(unused)}")
    notes = (f"{path.name}: {'; '.join(done)}",) if done else ()
    return Arrays(**arrays, class_names=names, test_fraction=test_fraction, notes=notes)


def _read_array(archive: Any, path: Path, name: str) -> npt.NDArray[Any]:
    try:
        array = archive[name]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{name} of {path} must hold plain numbers or text, got pickled Python objects, which could "
                "run code when read: write it again as numbers, or as text with astype(str); images of several sizes "
                "must be resized to one, or read as files with dataset=folder"
            ) from error
        raise _damaged(path, error) from error
    # NumPy returns the bytes of a member that does not begin like an array.
    if not isinstance(array, np.ndarray):
        raise _damaged(path, f"{name} is not an array")
    return array


def _damaged(path: Path, reason: object) -> ValueError:
    return ValueError(f"{path} must be an intact .npz archive, got damage ({reason}): copy or write it again")
