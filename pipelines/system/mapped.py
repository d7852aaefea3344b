"""Arrays in files, which may be larger than memory, read a part at a time.

A page of a mapped file that was accessed counts as memory of the process until the system reclaims it. Code that goes
through all images therefore reads them into a buffer of its own instead of accessing the mapping.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Size of a block: large enough that a block costs nothing, small compared with what TensorFlow takes.
BLOCK_BYTES = 2**26
ALIGNMENT = 64

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Region:
    """The place of an array in a file, contiguous from the byte `offset` on. It can be written as JSON."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: str

    def mapped(self) -> Array:
        """The array, mapped read-only."""
        return np.memmap(self.path, self.dtype, "r", self.offset, tuple(self.shape))


def region_of(array: Array) -> Region | None:
    """The place of an array that is a contiguous part of a mapped file; None for all other arrays."""
    if not (isinstance(array, np.memmap) and array.flags.c_contiguous and array.filename):
        return None
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if not isinstance(base, mmap.mmap):
        return None
    # A slice keeps the offset of the whole array: only its address shows where it begins.
    begin = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    start = np.frombuffer(base, np.uint8).__array_interface__["data"][0]
    offset = begin + array.__array_interface__["data"][0] - start
    return Region(path=str(array.filename), offset=offset, shape=array.shape, dtype=array.dtype.str)


def in_file(array: Array, spare: Path) -> Region:
    """The place of an array in a file; an array in memory is written to the `.npy` file `spare` first."""
    region = region_of(array)
    if region is None:
        np.save(spare, array, allow_pickle=False)
        region = region_of(np.load(spare, mmap_mode="r", allow_pickle=False))
        assert region is not None
    return region


class Rows:
    """Reads rows of an array in a file. Several threads may read at once."""

    def __init__(self, region: Region) -> None:
        self.path, self.count, self.shape = Path(region.path), region.shape[0], region.shape[1:]
        self.dtype, self._offset = np.dtype(region.dtype), region.offset
        self._row_bytes = int(np.prod(self.shape)) * self.dtype.itemsize
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __call__(self, index: npt.NDArray[np.int64]) -> Array:
        """The rows of an index (k,), in its order: (k, ...). Raises OSError if the file is too short."""
        size = self._row_bytes
        # TensorFlow uses an array without a copy only if it begins at a multiple of 64 bytes.
        memory = np.empty(len(index) * size + ALIGNMENT, np.uint8)
        begin = -memory.ctypes.data % ALIGNMENT
        rows = memory[begin : begin + len(index) * size].view(self.dtype).reshape(len(index), *self.shape)
        if rows.size == 0:
            return rows
        view = memory[begin:].data
        for place, row in enumerate(index.tolist()):
            self._read(view[place * size : (place + 1) * size], row * size)
        return rows

    def blocks(self, length: int) -> Iterator[Array]:
        """All rows in order, `length` at a time. Each block overwrites the one before."""
        buffer = np.empty((min(length, self.count), *self.shape), self.dtype)
        for start in range(0, self.count, length):
            block = buffer[: min(length, self.count - start)]
            self._read(block.reshape(-1).view(np.uint8).data, start * self._row_bytes)
            yield block

    def _read(self, into: memoryview, start: int) -> None:
        done = 0
        while done < len(into):
            # One call reads 2 GB at most.
            read = os.preadv(self._file, [into[done:]], self._offset + start + done)
            if read == 0:
                raise OSError(f"{self.path} must hold {self.count} rows, got a shorter file: delete it and run again")
            done += read


def blocks(array: Array, block_bytes: int = BLOCK_BYTES) -> Iterator[Array]:
    """The rows of an array in order, in blocks of at most `block_bytes` and at least one row.

    The blocks of an array in memory are views; that of an array in a file is a copy which the next block overwrites.
    """
    row_bytes = max(1, array.nbytes // max(1, len(array)))
    length = max(1, block_bytes // row_bytes)
    region = region_of(array)
    if region is not None and array.size:
        yield from Rows(region).blocks(length)
        return
    for start in range(0, len(array), length):
        yield array[start : start + length]


def sample(array: Array, block_bytes: int = BLOCK_BYTES) -> Array:
    """The first block, in memory."""
    for block in blocks(array, block_bytes):
        return np.asarray(block)
    return np.asarray(array)
