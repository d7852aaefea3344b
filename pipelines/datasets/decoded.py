"""Image files as splits in the cache: decoded once, in parallel, into one file that every cell maps."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipelines.datasets import notes, picture
from pipelines.datasets.base import ImageData, Images, Split, content_digest
from pipelines.datasets.cache import Cache, Facts
from pipelines.datasets.contents import content_hashes
from pipelines.datasets.picture import check_readable, printable
from pipelines.datasets.splitting import Indices, Labels
from pipelines.system import machine, mapped

# Raise it when `read` returns different pixels for the same file, or the facts are others.
VERSION = 6
# Limits of a task of one process: bytes of decoded images, and of files (a megabyte takes about 50 ms).
CHUNK_DECODED, CHUNK_FILES = 2**23, 2**20
# Bytes of files for each process; starting one takes about half a second.
BYTES_PER_PROCESS = 2**24
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
    """Training, validation and test images of side x side pixels, mapped from the cache, decoded first if needed.

    folder: of the files. read: returns the pixels of one file; called in subprocesses. Raises ValueError, naming the
    files, for those that cannot be read, and like `Cache.entry`.
    """
    cache = Cache.of_environment()
    paths = [os.fspath(path) for part in parts for path in part.paths]
    hashes = content_hashes(paths, cache, _sha256(str(folder)))
    labels = [part.labels.tolist() for part in parts]
    key = _sha256(json.dumps([VERSION, metadata.version("pillow"), side, list(class_names), labels, hashes]))

    def make(file: Path) -> Facts:
        images = np.load(file, mmap_mode="r", allow_pickle=False)
        _decode(paths, side, images, read)
        found = _facts(_splits(images, parts, {}), class_names) | {"dark": notes.dark(images)}
        return {"images": len(paths), "side": side, "folder": printable(folder), **found}

    images, facts = cache.entry(key, (len(paths), side, side, 3), make)
    train, validation, test = _splits(images, parts, facts)
    return ImageData(
        train=train,
        validation=validation,
        test=test,
        class_names=tuple(class_names),
        digest=facts["digest"],
        notes=(facts["duplicates"], facts["dark"]),
        duplicates=facts["duplicates"],
    )


def _splits(images: Images, parts: Sequence[Files], facts: Facts) -> list[Split]:
    """Consecutive splits of the images, with their digests if known."""
    bounds = np.cumsum([0, *(len(part.paths) for part in parts)]).tolist()
    known = facts.get("split_digests", [None] * len(parts))
    return [
        Split(images=images[start:stop], labels=part.labels, known_digest=digest)
        for (start, stop), part, digest in zip(pairwise(bounds), parts, known, strict=True)
    ]


def _facts(splits: Sequence[Split], class_names: Sequence[str]) -> Facts:
    """Facts that need a pass over all pixels. Hashing releases Python's lock, so threads use several cores."""
    with ThreadPoolExecutor(machine.cores()) as pool:
        digest = pool.submit(content_digest, splits, class_names)
        duplicates = pool.submit(notes.duplicates, *splits)
        split_digests = list(pool.map(lambda one: one.digest, splits))
        return {"split_digests": split_digests, "digest": digest.result(), "duplicates": duplicates.result()}


def _decode(paths: Sequence[str], side: int, images: Images, read: Read) -> None:
    """Fill the mapped array's file with the images of all paths, in order."""
    region = mapped.region_of(images)
    assert region is not None
    sizes = [Path(path).stat().st_size for path in paths]
    chunks = list(_chunks(paths, sizes, max_files=max(1, CHUNK_DECODED // images[0].nbytes)))
    workers = min(machine.cores(), sum(sizes) // BYTES_PER_PROCESS)
    unreadable: list[str] = []
    # No bar for less than a second.
    with tqdm(total=len(paths), desc="reading images", unit=" images", delay=1, disable=None) as bar:
        if workers < 2:
            for start, some in chunks:
                unreadable += _write(some, side, region, start, read)
                bar.update(len(some))
            check_readable(unreadable)
            return
        # Threads of one process would decode small images one after another. A process with threads, such as
        # TensorFlow's or MLflow's, must not be forked.
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_end_with_parent) as pool:
            try:
                jobs = {pool.submit(_write, some, side, region, start, read): len(some) for start, some in chunks}
                for job in as_completed(jobs):
                    unreadable += job.result()
                    bar.update(jobs[job])
            except BrokenProcessPool as error:
                raise ValueError(
                    f"the images must fit into memory while {workers} processes decode them, and one was killed, "
                    "probably for lack of it: make them smaller, or end other programs"
                ) from error
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    check_readable(unreadable)


def _chunks(paths: Sequence[str], sizes: Sequence[int], *, max_files: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Consecutive files, with the position of the first: at most `max_files` and about CHUNK_FILES bytes at a time."""
    start = taken = 0
    for stop, size in enumerate(sizes, start=1):
        taken += size
        if stop - start == max_files or taken >= CHUNK_FILES or stop == len(sizes):
            yield start, paths[start:stop]
            start, taken = stop, 0


def _write(paths: Sequence[str], side: int, region: mapped.Region, start: int, read: Read) -> list[str]:
    """Decode images and write them into the file from row `start` on; returns a sentence for each unreadable one."""
    rows, unreadable = [], []
    for path in paths:
        try:
            rows.append(read(Path(path), side))
        except ValueError as error:
            unreadable.append(str(error))
    if not unreadable:
        pixels = np.stack(rows)
        with Path(region.path).open("r+b") as file:
            file.seek(region.offset + start * pixels[0].nbytes)
            file.write(pixels.data)
    return unreadable


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end this process when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the pool ends it
    parent = parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel] if parent else [])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _sha256(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()
