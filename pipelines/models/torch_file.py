"""Tensors of an old-format PyTorch file, without PyTorch and without running code of its pickles.

The layout, from torch/serialization.py (`_legacy_save`): five pickles in a row, namely a magic number, the protocol's
version, the writer's system, the object, and the keys of its storages; then each storage in that order as an int64
count and the raw elements.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

_HEADER = [0x1950A86A20F9469CFC6C, 1001]
_DTYPES = {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8"}
# Raised by reading bytes that are no pickle, or one of other objects.
_DAMAGE = (EOFError, pickle.UnpicklingError, TypeError, ValueError, LookupError, AttributeError)


def read(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a saved `state_dict` by its name, in its own dtype.

    The views are trusted to be within their storages: check the file's digest first. Raises ValueError if the file is
    truncated, damaged, of another format, or asks for anything but tensors.
    """
    try:
        with path.open("rb") as file:
            header = [_Unpickler(file).load() for _ in range(3)]
            if header[:2] != _HEADER:
                raise ValueError("another magic number or protocol")
            tensors, keys = _Unpickler(file).load(), _Unpickler(file).load()
            dtypes = {key: np.dtype(dtype) for (key, dtype), *_ in tensors.values()}
            storages = {}
            for key in keys:
                count = int.from_bytes(file.read(8), "little")
                storages[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key], count)
    except _DAMAGE as error:
        raise ValueError(
            f"{path} must be a complete file of tensors in PyTorch's old format, but reading it failed "
            f"({error or type(error).__name__}): install its package again"
        ) from error
    return {name: _view(storages[key], *view) for name, ((key, _), *view) in tensors.items()}


def _view(storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """A copy of the elements of a view; offset and strides are in elements."""
    steps = [step * storage.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps).copy()


def _rebuild_tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> tuple[Any, int, Any, Any]:
    """Replaces torch._utils._rebuild_tensor_v2; its other arguments concern gradients."""
    return storage, offset, shape, strides


class _Unpickler(pickle.Unpickler):
    """Loads tensors and ordered dictionaries, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The replacement of a global. Raises UnpicklingError for any other one."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no tensor needs: distrust it")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        """Key and dtype of a storage, from ("storage", dtype, key, location, count, view)."""
        _, dtype, key, *_ = pid
        return key, dtype
