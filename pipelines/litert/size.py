"""Bytes of an exported model, as stored and as shipped."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.system.machine import cores

# DEFLATE looks back so far for repeats.
WINDOW = 2**15
# Compressed side by side, as pigz does: the same on every machine, whatever its cores.
PIECE = 2**22


def file_bytes(path: Path) -> int:
    """Size of the file in bytes."""
    return path.stat().st_size


def compressed_bytes(path: Path) -> int:
    """Size in bytes of the whole file compressed with DEFLATE at level 6, which is what `gzip` and `zip` use.

    Zeros of pruning and repeats of clustering take full space in a flatbuffer, so only this shows them.
    """
    # Imported here, as a device that measures needs this module's hash alone. Sizes are zlib's to within 5 in 1,000.
    from zlib_ng import zlib_ng

    content = path.read_bytes()

    def of_piece(start: int) -> int:
        packer = zlib_ng.compressobj(6, wbits=-zlib_ng.MAX_WBITS, zdict=content[max(0, start - WINDOW) : start])
        last = start + PIECE >= len(content)
        packed = packer.compress(content[start : start + PIECE])
        return len(packed) + len(packer.flush(zlib_ng.Z_FINISH if last else zlib_ng.Z_SYNC_FLUSH))

    with ThreadPoolExecutor(cores()) as pool:
        # The stream's head and checksum.
        return 6 + sum(pool.map(of_piece, range(0, max(1, len(content)), PIECE)))


def sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
