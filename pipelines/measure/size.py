"""Bytes of an artifact, as stored and as shipped."""

import hashlib
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


def sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
