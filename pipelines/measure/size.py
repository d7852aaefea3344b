"""Bytes of an artifact, as stored and as shipped."""

import zlib
from pathlib import Path


def file_bytes(path: Path) -> int:
    """Size of the file in bytes."""
    return path.stat().st_size


def compressed_bytes(path: Path) -> int:
    """Size in bytes of the whole file compressed with DEFLATE (zlib, level 9).

    Zeros of pruning and repeats of clustering take full space in a flatbuffer, so only this shows them.
    """
    return len(zlib.compress(path.read_bytes(), 9))
