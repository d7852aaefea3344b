"""Image files as splits that lie in the cache: decoded once, in parallel, into one file that every cell maps."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipelines.datasets import notes, picture
from pipelines.datasets.base import ImageData, Images, Indices, Labels, Split, content_digest
from pipelines.datasets.cache import Cache, Facts
from pipelines.datasets.contents import content_hashes
from pipelines.datasets.picture import printable
from pipelines.system import machine, mapped

# Raise it when `read` gives other pixels for the same file.
VERSION = 1
# What a process decodes at a time: bytes of decoded images, and of files, of which a megabyte takes about 50 ms.
CHUNK_DECODED, CHUNK_FILES = 2**23, 2**20
# So many bytes of files for each process that is started, which takes about half a second.
WORTH_A_PROCESS = 2**24
Read = Callable[[Path, int], Images]


@dataclass(frozen=True, kw_only=True)
class Files:
    """Image files in the order of a split, and their labels, int64 (n,)."""

    paths: Sequence[Path]
    labels: Labels

    def __getitem__(self, chosen: Indices) -> Files:
        return Files(paths=[self.paths[number] for number in chosen], labels=self.labels[chosen])


def image_data(
    parts: Sequence[Files], class_names: Sequence[str], *, side: int, folder: Path, read: Read = picture.read
) -> ImageData:
    """Training, validation and test images of side x side pixels, mapped from the cache, decoded into it if need be.

    folder: where the files are. read: gives the pixels of one file; other processes call it. Raises ValueError, naming
    the file, for one that cannot be read, and as `Cache.entry` does.
    """
    cache = Cache.of_environment()
    paths = [os.fspath(path) for part in parts for path in part.paths]
    hashes = content_hashes(paths, cache, _sha256(str(folder)))
    labels = [part.labels.tolist() for part in parts]
    key = _sha256(json.dumps([VERSION, metadata.version("pillow"), side, list(class_names), labels, hashes]))

    def make(file: Path) -> Facts:
        images = np.load(file, mmap_mode="r", allow_pickle=False)
        _decode(paths, side, images, read)
        found = _facts(_splits(images, parts, {}), class_names)
        return {"images": len(paths), "side": side, "folder": printable(folder), **found}

    images, facts = cache.entry(key, (len(paths), side, side, 3), make)
    train, validation, test = _splits(images, parts, facts)
    return ImageData(
        train=train,
        validation=validation,
        test=test,
        class_names=tuple(class_names),
        digest=facts["digest"],
        notes=(facts["duplicates"],),
    )


def _splits(images: Images, parts: Sequence[Files], facts: Facts) -> list[Split]:
    """One after the other in the images, with the digests as far as they are known."""
    bounds = np.cumsum([0, *(len(part.paths) for part in parts)]).tolist()
    known = facts.get("split_digests", [None] * len(parts))
    return [
        Split(images=images[start:stop], labels=part.labels, known_digest=digest)
        for (start, stop), part, digest in zip(pairwise(bounds), parts, known, strict=True)
    ]


def _facts(splits: Sequence[Split], class_names: Sequence[str]) -> Facts:
    """What takes a look at all pixels. Hashes let go of Python's lock, so that they use several cores."""
    train, _, test = splits
    with ThreadPoolExecutor(machine.cores()) as pool:
        digest = pool.submit(content_digest, splits, class_names)
        duplicates = pool.submit(notes.duplicates, train, test)
        split_digests = list(pool.map(lambda one: one.digest, splits))
        return {"split_digests": split_digests, "digest": digest.result(), "duplicates": duplicates.result()}


def _decode(paths: Sequence[str], side: int, images: Images, read: Read) -> None:
    """Fill the mapped array's file with the images of all paths, in their order."""
    region = mapped.region_of(images)
    assert region is not None
    sizes = [Path(path).stat().st_size for path in paths]
    chunks = list(_chunks(paths, sizes, most=max(1, CHUNK_DECODED // images[0].nbytes)))
    workers = min(machine.cores(), sum(sizes) // WORTH_A_PROCESS)
    # Nothing is shown for what takes less than a second.
    with tqdm(total=len(paths), desc="reading images", unit=" images", delay=1, disable=None) as bar:
        if workers < 2:
            for start, some in chunks:
                bar.update(_write(some, side, region, start, read))
            return
        # Threads of a process decode small images one after the other. What has threads, as TensorFlow's or MLflow's,
        # must not be forked.
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_end_with_parent) as pool:
            try:
                jobs = [pool.submit(_write, some, side, region, start, read) for start, some in chunks]
                for job in as_completed(jobs):
                    bar.update(job.result())
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _chunks(paths: Sequence[str], sizes: Sequence[int], *, most: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Consecutive files, with the place of the first: at most so many, and no more than about CHUNK_FILES bytes."""
    start = taken = 0
    for stop, size in enumerate(sizes, start=1):
        taken += size
        if stop - start == most or taken >= CHUNK_FILES or stop == len(sizes):
            yield start, paths[start:stop]
            start, taken = stop, 0


def _write(paths: Sequence[str], side: int, region: mapped.Region, start: int, read: Read) -> int:
    """Decode images and write them into the file from row `start` on; gives their number."""
    rows = np.stack([read(Path(path), side) for path in paths])
    place, left = region.offset + start * rows[0].nbytes, rows.reshape(-1).data
    file = os.open(region.path, os.O_WRONLY)
    try:
        while left:
            done = os.pwrite(file, left, place)
            place, left = place + done, left[done:]
    finally:
        os.close(file)
    return len(paths)


def _end_with_parent() -> None:
    """Let Ctrl-C be the parent's matter, and end this process when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel] if parent else [])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _sha256(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()
