"""CIFAR's images in their published form for Python: pickled batches in an archive, or unpacked from it."""

from __future__ import annotations

import pickle
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from pipelines.datasets.base import Images
from pipelines.datasets.splitting import Labels
from pipelines.system import digests

# Raised by reading bytes that are no archive or no batch.
_DAMAGE = (
    tarfile.TarError, zlib.error, EOFError, OSError, pickle.UnpicklingError, ValueError, TypeError, LookupError,
    AttributeError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Published:
    """One of the two datasets, as published.

    url, sha256: of the archive; the digest is from Keras's sources. folder: inside of it. train, test: names of the
    batches, in order. labels: key of the labels in a batch. keras: names of the archive in Keras's folder, which differ
    between its versions.
    """

    url: str
    sha256: str
    folder: str
    train: tuple[str, ...]
    test: str
    labels: bytes
    keras: tuple[str, ...]

    @property
    def file(self) -> str:
        """The archive's name in its address."""
        return self.url.rsplit("/", 1)[1]


PUBLISHED = {
    10: Published(
        url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test="test_batch",
        labels=b"labels",
        keras=("cifar-10-batches-py.tar.gz", "cifar-10-batches-py-target_archive"),
    ),
    100: Published(
        url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        sha256="85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
        folder="cifar-100-python",
        train=("train",),
        test="test",
        labels=b"fine_labels",
        keras=("cifar-100-python.tar.gz", "cifar-100-python-target_archive"),
    ),
}


def check_hash(archive: Path, sha256: str) -> None:
    """Raise ValueError unless the file has this digest."""
    found = digests.sha256(archive)
    if found != sha256:
        raise ValueError(
            f"{archive} must be the archive with SHA-256 {sha256}, got {found}: delete it, so that it is fetched "
            "again, or put the whole archive there"
        )


def read(source: Path, published: Published) -> tuple[Images, Labels, Images, Labels]:
    """Training images, uint8 (n, 32, 32, 3), and labels, int64 (n,); the same for testing.

    source: the archive, or the folder that was unpacked from it. Raises ValueError where it is damaged.
    """
    wanted = {*published.train, published.test}
    members = _unpacked(source, wanted) if source.is_dir() else _packed(source, published.folder, wanted)
    try:
        batches = {name: _batch(content, published.labels) for name, content in members}
        if missing := sorted(wanted - set(batches)):
            raise ValueError(f"no {missing[0]} in it")
    except _DAMAGE as error:
        raise ValueError(
            f"{source} must hold CIFAR's batches as published, but reading failed "
            f"({str(error) or type(error).__name__}): delete it and put {published.file} there, unpacked or not, or "
            "run again online"
        ) from error
    train = [batches[name] for name in published.train]
    x_train, y_train = (np.concatenate(parts) for parts in zip(*train, strict=True))
    return x_train, y_train, *batches[published.test]


def _packed(archive: Path, folder: str, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """The wanted members, in the order of the archive: a compressed file is read once, from start to end."""
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.name in wanted and path.parent.name == folder and (content := tar.extractfile(member)):
                yield path.name, content.read()


def _unpacked(folder: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    return ((name, (folder / name).read_bytes()) for name in sorted(wanted))


def _batch(content: bytes, labels: bytes) -> tuple[Images, Labels]:
    batch = _Unpickler(BytesIO(content), encoding="bytes").load()
    pixels = batch[b"data"]
    if pixels.dtype != np.uint8 or len(pixels) != len(batch[labels]):
        raise ValueError(f"{len(batch[labels])} labels of {pixels.dtype} images of shape {pixels.shape}")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(batch[labels], np.int64)


class _Unpickler(pickle.Unpickler):
    """Loads NumPy's arrays and nothing else: a pickle can run any code."""

    known: ClassVar = {("ndarray", "numpy"), ("dtype", "numpy")}

    def find_class(self, module: str, name: str) -> Any:
        """A global of NumPy. Raises pickle.UnpicklingError for every other one."""
        if (name, module) in self.known:
            return getattr(np, name)
        # Its module depends on the version of NumPy that wrote the pickle.
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return np.ndarray.__reduce__(np.empty(0))[0]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs: distrust it")
