"""Any dataset in one NumPy archive, read without unpickling anything."""

import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.datasets.base import ArrayDataset, Arrays, stratified_split
from pipelines.datasets.labels import as_numbers
from pipelines.datasets.pixels import as_rgb
from pipelines.datasets.roles import assigned
from pipelines.system import checks

NAMES = ("x_train", "y_train", "x_test", "y_test", "class_names")


@dataclass(frozen=True, kw_only=True)
class Npz(ArrayDataset):
    """The images of an `.npz` file with the arrays x_train, y_train, x_test, y_test and class_names.

    path: the file. x_*: uint8 RGB (n, h, w, 3); y_*: integers (n,), indices into class_names, which is text; what else
    is taken is in `roles.py`, `pixels.py` and `labels.py`.
    test_fraction: part held out for testing, in (0, 1); of no effect where the file has test images.
    """

    path: str = field(metadata={"fingerprint": False})
    # The digest holds which images are tested, and cells of files that have test images keep their fingerprint.
    test_fraction: float = field(default=0.2, metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        """Check the fields."""
        if not isinstance(self.path, str) or not self.path:
            raise ValueError(
                f"dataset.path must name an .npz file, got {self.path!r}: set for example dataset.path=photos.npz"
            )
        super().__post_init__()
        checks.fraction("dataset.test_fraction", self.test_fraction)

    @property
    def default_name(self) -> str:
        """The file's name without its ending."""
        return self._file.stem

    def preflight(self) -> None:
        """Check that the file is there and is an archive with the arrays."""
        if not self._file.is_file():
            raise FileNotFoundError(
                f"dataset.path must name an existing .npz file, got {self.path}: "
                f"write one with numpy.savez and the arrays {', '.join(NAMES)}, or correct the path"
            )
        check_archive(self._file)

    def _read(self) -> Arrays:
        self.preflight()
        return read_archive(self._file, test_fraction=self.test_fraction, seed=self.split_seed)

    @property
    def _file(self) -> Path:
        return Path(os.path.expanduser(self.path))  # noqa: PTH111 (a file may be called ~a)


def check_archive(path: Path) -> dict[str, str]:
    """The array of each role (`roles.py`). Raises ValueError for an archive that lacks one; reads no array."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist()]
    except zipfile.BadZipFile as error:
        raise _damaged(path, error) from error
    by_role = assigned(found)
    wanted = ["x", "y"] if "x" in by_role and "x_train" not in by_role else ["x_train", "y_train"]
    for part in ("test", "validation"):
        if {f"x_{part}", f"y_{part}"} & set(by_role):
            wanted += [f"x_{part}", f"y_{part}"]
    if missing := [role for role in wanted if role not in by_role]:
        raise ValueError(
            f"{path} must hold the array {missing[0]}, got only {', '.join(found) or 'none'}: "
            f"write it with numpy.savez and the arrays {', '.join(NAMES)}"
        )
    return {role: by_role[role] for role in (*wanted, "class_names") if role in by_role}


def read_archive(path: Path, *, test_fraction: float = 0.2, seed: int = 0) -> Arrays:
    """Read the arrays, and change what can mean one thing only into what `Arrays` asks for.

    test_fraction: held out for testing, by `seed`, where no test images are there.
    Raises ValueError for an archive that lacks an array, is damaged, or wants pickled objects.
    """
    by_role = check_archive(path)
    with np.load(path, allow_pickle=False) as archive:
        raw = {role: _read_array(archive, path, name) for role, name in by_role.items()}
    xs = {role: by_role[role] for role in raw if role[:1] == "x"}
    ys = {role: by_role[role] for role in raw if role[:1] == "y"}
    sizes = {by_role[role]: (xs["x" + role[1:]], len(np.atleast_1d(raw["x" + role[1:]]))) for role in ys}
    names = raw.get("class_names")
    images, done = as_rgb({name: raw[role] for role, name in xs.items()})
    labels, class_names, named = as_numbers({name: raw[role] for role, name in ys.items()}, names, sizes)
    taken: dict[str, npt.NDArray[Any]] = {role.replace("_train", ""): images[name] for role, name in xs.items()}
    taken |= {role.replace("_train", ""): labels[name] for role, name in ys.items()}
    if renamed := [f"{name} as {role}" for role, name in by_role.items() if name != role and len(role) > 1]:
        done = [f"took {', '.join(renamed)}", *done]
    done += named
    if "x_test" not in taken:
        rest, tested = stratified_split(taken["y"], test_fraction, seed=seed, field="dataset.test_fraction")
        taken |= {"x_test": taken["x"][tested], "y_test": taken["y"][tested]}
        taken |= {"x": taken["x"][rest], "y": taken["y"][rest]}
        done.append(f"no test images are there, so {test_fraction:g} of all were held out for testing")
    return Arrays(
        x_train=taken["x"],
        y_train=taken["y"],
        x_test=taken["x_test"],
        y_test=taken["y_test"],
        class_names=class_names,
        x_validation=taken.get("x_validation"),
        y_validation=taken.get("y_validation"),
        notes=(f"{path.name}: {'; '.join(done)}",) if done else (),
    )


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
    # NumPy hands out the bytes of a member that does not begin like an array.
    if not isinstance(array, np.ndarray):
        raise _damaged(path, f"{name} is not an array")
    return array


def _damaged(path: Path, reason: object) -> ValueError:
    return ValueError(f"{path} must be an intact .npz archive, got damage ({reason}): copy or write it again")
