"""Content hashes of files, remembered as in git's index: a file is read again only if its state has changed."""

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pipelines.datasets.cache import Cache
from pipelines.datasets.picture import check_readable, unreadable
from pipelines.system import digests, machine

T = TypeVar("T")
R = TypeVar("R")
# Size, mtime, ctime and inode: any change of the file changes one of them,
State = tuple[int, int, int, int]
# except for one so shortly after another that both have the same time.
RACY_NS = 2_000_000_000
READERS = 8


def content_hashes(paths: Sequence[str], cache: Cache, name: str) -> list[str]:
    """SHA-256 of each file's content, in hexadecimal.

    name: key of the hashes in the cache. Raises ValueError for files that cannot be read, which it names.
    """
    remembered = _load(cache.recall(name))
    states = _all_of(_state, paths)
    known = [remembered.get(path, (None, "")) for path in paths]
    unread = [place for place, state in enumerate(states) if known[place][0] != state]
    hashes = [content for _, content in known]
    if not unread:
        return hashes
    started = time.time_ns()
    with ThreadPoolExecutor(READERS) as pool:
        jobs = [pool.submit(_sha256, paths[place]) for place in unread]
        try:
            contents = _all_of(Future.result, jobs)
        except BaseException:
            # Ctrl-C must not wait for the files that are left.
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    for place, content in zip(unread, contents, strict=True):
        hashes[place] = content
    fresh = {
        path: (state, content)
        for path, state, content in zip(paths, states, hashes, strict=True)
        if max(state[1:3]) < started - RACY_NS
    }
    others = {path: one for path, one in remembered.items() if path not in fresh and _unchanged(path, one[0])}
    try:
        cache.note(name, json.dumps([[path, *state, content] for path, (state, content) in (others | fresh).items()]))
    except OSError as error:
        # The cache refuses the images for lack of room later, with a mend, or has them already.
        if error.errno not in machine.DISK_FULL:
            raise
    return hashes


def _all_of(read: Callable[[T], R], ones: Iterable[T]) -> list[R]:
    """What `read` gives for each. Raises one ValueError with all that it raises."""
    found, refused = [], []
    for one in ones:
        try:
            found.append(read(one))
        except ValueError as error:
            refused.append(str(error))
    check_readable(refused)
    return found


def _load(text: str) -> dict[str, tuple[State, str]]:
    try:
        return {
            path: ((size, mtime, ctime, inode), content)
            for path, size, mtime, ctime, inode, content in json.loads(text or "[]")
        }
    except (ValueError, TypeError):
        return {}


def _state(path: str) -> State:
    try:
        found = os.stat(path)  # noqa: PTH116 (a second of every cell's start goes into making paths of 200,000 texts)
    except OSError as error:
        raise unreadable(Path(path), error) from error
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _unchanged(path: str, state: State) -> bool:
    try:
        return _state(path) == state
    except ValueError:
        return False


def _sha256(path: str) -> str:
    try:
        return digests.sha256(Path(path))
    except OSError as error:
        raise unreadable(Path(path), error) from error
