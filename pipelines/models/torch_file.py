"""Tensors from an old-format PyTorch file, without PyTorch and without running what a pickle may ask for.

The layout, from torch/serialization.py (`_legacy_save`): five pickles one after the other, namely a magic
number, the protocol's version, the writer's system, the object, and the keys of its storages; then each
storage in that order as an int64 count and the raw elements.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# What the unpickler raises on bytes that are no pickle, and this module on one that holds something else.
_DAMAGE = (
    EOFError,
    pickle.UnpicklingError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    OverflowError,
    ImportError,
)


def read(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a saved `state_dict` by its name, as an array of its own in the tensor's dtype.

    Raises ValueError if the file is cut off, damaged or of another format, and pickle.UnpicklingError, which
    names the global, if it asks for anything but tensors.
    """
    with path.open("rb") as file:
        try:
            return _read(file, path.stat().st_size)
        except _RefusedGlobalError:
            raise
        except (
            EOFError,
            pickle.UnpicklingError,
            TypeError,
            ValueError,
            LookupError,
            AttributeError,
        ) as error:
            raise ValueError(
                f"{path} must be a whole file of tensors in PyTorch's old format, but reading it failed "
                f"({error or type(error).__name__}): fetch it again"
            ) from error


class _RefusedGlobalError(pickle.UnpicklingError):
    """A pickle asked for something that no tensor needs."""


@dataclass(frozen=True, kw_only=True)
class _StorageType:
    """Stands for a class such as torch.FloatStorage."""

    dtype: np.dtype[Any]


@dataclass(frozen=True, kw_only=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """A view of a storage, in elements; storages come after the pickle that holds the views."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def resolve(self, storages: Mapping[str, np.ndarray]) -> np.ndarray:
        """A copy of what the view shows. Raises ValueError where it reaches outside its storage."""
        elements = storages[self.storage.key]
        last = self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        numbers = (self.offset, *self.shape, *self.strides)
        if min(numbers) < 0 or last >= elements.size or math.prod(self.shape) > elements.size:
            raise ValueError(f"a tensor of shape {self.shape} reaches outside its storage of {elements.size}")
        steps = [step * elements.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, steps).copy()


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> _Tensor:
    """Stands for torch._utils._rebuild_tensor_v2; the rest says whether gradients are taken."""
    return _Tensor(storage=storage, offset=offset, shape=shape, strides=strides)


_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "u1",
}


class _Unpickler(pickle.Unpickler):
    """Knows tensors and ordered dictionaries, and nothing else."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global. Raises _RefusedGlobalError for every other."""
        if module == "torch" and name in _STORAGES:
            # A new one each time: a pickle can set attributes, and must not reach the next reading.
            return _StorageType(dtype=np.dtype(_STORAGES[name]))
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise _RefusedGlobalError(f"the file asks for {module}.{name}, which no tensor needs: distrust it")

    def persistent_load(self, pid: Any) -> _Storage:
        """The stand-in for a storage: ("storage", type, key, location, count, None)."""
        kind, storage_type, key, _location, count, view = pid
        if kind != "storage" or view is not None:
            raise ValueError(f"unknown reference {kind!r}")
        return self.storages.setdefault(key, _Storage(key=key, dtype=storage_type.dtype, count=count))


def _read(file: BinaryIO, size_bytes: int) -> dict[str, np.ndarray]:
    if _Unpickler(file).load() != _MAGIC:
        raise ValueError("another magic number")
    if _Unpickler(file).load() != _PROTOCOL:
        raise ValueError("another protocol")
    if _Unpickler(file).load()["little_endian"] is not True:
        raise ValueError("big-endian")
    unpickler = _Unpickler(file)
    tensors = unpickler.load()
    keys = _Unpickler(file).load()
    storages = {key: _read_storage(file, unpickler.storages[key], size_bytes) for key in keys}
    return {name: tensor.resolve(storages) for name, tensor in tensors.items()}


def _read_storage(file: BinaryIO, storage: _Storage, size_bytes: int) -> np.ndarray:
    (count,) = struct.unpack("<q", _exactly(file, 8, size_bytes))
    if count != storage.count:
        raise ValueError(f"storage {storage.key} holds {count} elements instead of {storage.count}")
    return np.frombuffer(_exactly(file, count * storage.dtype.itemsize, size_bytes), storage.dtype)


def _exactly(file: BinaryIO, count_bytes: int, size_bytes: int) -> bytes:
    """Exactly so many bytes; asked beforehand, so that a false count takes no memory."""
    if not 0 <= count_bytes <= size_bytes - file.tell():
        raise ValueError(f"it ends {count_bytes - (size_bytes - file.tell())} bytes too early")
    return file.read(count_bytes)
