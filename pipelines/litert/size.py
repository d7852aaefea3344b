"""Bytes of an exported model, as stored and as shipped."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipelines.system.machine import cores

# Distance in which DEFLATE finds repeats.
WINDOW = 2**15
# Pieces are compressed in parallel, as by pigz; the result does not depend on the number of cores.
PIECE = 2**22


def compressed_bytes(path: Path) -> int:
    """Size in bytes of the file compressed with DEFLATE at level 6, as by `gzip` and `zip`.

    Zeros of pruning and repeats of clustering take full space in a flatbuffer; only the compressed size shows them.
    """
    # Imported here, since a device, which has no zlib-ng, loads this module with a cell's settings. Sizes differ from
    # zlib's by at most 0.5%.
    from zlib_ng import zlib_ng

    content = path.read_bytes()

    def of_piece(start: int) -> int:
        packer = zlib_ng.compressobj(6, wbits=-zlib_ng.MAX_WBITS, zdict=content[max(0, start - WINDOW) : start])
        last = start + PIECE >= len(content)
        packed = packer.compress(content[start : start + PIECE])
        return len(packed) + len(packer.flush(zlib_ng.Z_FINISH if last else zlib_ng.Z_SYNC_FLUSH))

    with ThreadPoolExecutor(cores()) as pool:
        # 6 bytes are the stream's header and checksum.
        return 6 + sum(pool.map(of_piece, range(0, max(1, len(content)), PIECE)))
