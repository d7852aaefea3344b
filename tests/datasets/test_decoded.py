import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import psutil
import pytest
from PIL import Image

from pipelines.datasets import picture
from pipelines.datasets.base import Split, content_digest
from pipelines.datasets.cache import Cache
from pipelines.datasets.contents import content_hashes
from pipelines.datasets.decoded import Files, _chunks, image_data
from pipelines.system import machine
from pipelines.system.mapped import region_of
from tests.decoders import never, read
from tests.places import ROOT, until

SIDE, NAMES = 16, ("cat", "dog")


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """600 files that were changed long ago."""
    rng, paths = np.random.default_rng(0), []
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(600):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(path)
        os.utime(path, (1e9, 1e9))
        paths.append(str(path))
    return paths


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """Two processes decode more than a few files."""
    monkeypatch.setattr("pipelines.datasets.decoded.BYTES_PER_PROCESS", 2**17)
    monkeypatch.setenv("OPSCORE_CACHE", str(tmp_path / "cache"))
    return Cache.of_environment()


def parts(paths: list[str]) -> list[Files]:
    bounds = [0, len(paths) - 30, len(paths) - 20, len(paths)]
    return [
        Files(paths=[Path(one) for one in paths[start:stop]], labels=np.arange(stop - start) % 2)
        for start, stop in pairwise(bounds)
    ]


def data(paths: list[str], using=read, side: int = SIDE, names=NAMES):
    """The loaded images, and how many were decoded for them."""
    made = {path.stat().st_ino for path in Cache.of_environment().folder.glob("*.npy")}
    found = image_data(parts(paths), names, side=side, folder=Path(paths[0]).parent, read=using)
    new = {path.stat().st_ino for path in Cache.of_environment().folder.glob("*.npy")} - made
    return found, len(paths) * len(new)


def test_images_equal_the_files_and_are_decoded_once(photos, cache) -> None:
    found, decoded = data(photos)
    assert decoded == len(photos)
    for split, part in zip((found.train, found.validation, found.test), parts(photos), strict=True):
        assert np.array_equal(split.images, np.stack([read(path, SIDE) for path in part.paths]))
        assert np.array_equal(split.labels, part.labels)
        assert region_of(split.images) is not None
        held = Split(images=np.array(split.images), labels=split.labels)
        assert split.known_digest == held.digest
    assert found.digest == content_digest((found.train, found.validation, found.test), NAMES)
    again, decoded = data(photos, never)
    assert (decoded, again.digest, again.test.digest) == (0, found.digest, found.test.digest)
    (stored,) = (one for one in cache.stored() if one.facts)
    assert stored.in_use and stored.facts["images"] == 600 and stored.facts["folder"] == str(Path(photos[0]).parent)


def test_only_changed_content_is_decoded_again(photos, tmp_path) -> None:
    few = photos[:50]
    first, _ = data(few)
    copy = tmp_path / "copy"
    copy.mkdir()
    assert data([shutil.copy(path, copy) for path in few], never)[0].digest == first.digest
    os.utime(few[0])
    assert data(few, never)[1] == 0
    shutil.copy(photos[60], few[0])
    assert data(few)[1] == 50
    assert data(few)[0].digest != first.digest


@pytest.mark.parametrize(
    "other",
    [
        {"side": 8},
        {"names": ("cat", "cow")},
        {"paths": slice(None, None, -1)},
        {"paths": slice(0, 40)},
    ],
)
def test_another_setting_is_another_entry(photos, other) -> None:
    few = photos[:50]
    first, _ = data(few)
    changed = other | {"paths": few[other["paths"]] if "paths" in other else few}
    second, decoded = data(**changed)
    assert decoded == len(changed["paths"])
    assert second.digest != first.digest


def is_pool(process: psutil.Process) -> bool:
    """Whether it is a living process that decodes."""
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(process.cmdline())
    return False


def test_undecodable_file_stops_decoding_and_leaves_nothing(photos, cache) -> None:
    Path(photos[300]).write_bytes(b"no image")
    with pytest.raises(OSError, match=r"cannot identify image file .*300.png"):
        data(photos)
    assert all(not one.whole or not one.facts for one in cache.stored())
    until(lambda: not [one for one in psutil.Process().children() if is_pool(one)], seconds=20)


@pytest.mark.parametrize("cores", [1, 2])
def test_all_unreadable_files_are_named_at_once(photos, cache, monkeypatch, cores: int) -> None:
    monkeypatch.setattr(machine, "cores", lambda: cores)
    for number in (300, 7, 200):
        Path(photos[number]).write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"200.png must be an image .*; 2 more .* either: all are listed in ") as no:
        data(photos, picture.read)
    lines = Path(str(no.value).rpartition(" in ")[2]).read_text().splitlines()
    assert [line.partition(" ")[0] for line in lines] == [photos[number] for number in (200, 300, 7)]
    assert all(not one.whole or not one.facts for one in cache.stored())


def test_only_changed_files_are_hashed_again(photos, cache, monkeypatch) -> None:
    time.sleep(2.1)  # so that no file counts as changed just now
    first = content_hashes(photos, cache, "a" * 64)
    assert len(set(first)) == len(photos)
    opened: list[str] = []
    real = Path.open

    def counted(self: Path, *arguments: Any, **named: Any) -> Any:
        opened.append(self.name)
        return real(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", counted)
    shutil.copy(photos[1], photos[0])
    os.utime(photos[0], (1e9, 1e9))  # size and time of change as before: only the ctime differs
    assert content_hashes(photos, cache, "a" * 64) == [first[1], *first[1:]]
    assert [name for name in opened if name.endswith(".png")] == ["0.png"]
    # It changed less than two seconds ago, and might change again within one tick of its clock.
    opened.clear()
    assert content_hashes(photos[:9], cache, "a" * 64) == [first[1], *first[1:9]]
    assert [name for name in opened if name.endswith(".png")] == ["0.png"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_hashes_that_do_not_fit_on_the_disk_are_used(photos, cache, monkeypatch, number: int) -> None:
    """The cache itself refuses the images then, with a mend."""
    expected = content_hashes(photos[:3], cache, "a" * 64)
    monkeypatch.setattr("pipelines.datasets.cache.write_atomically", Mock(side_effect=OSError(number, "full")))
    assert content_hashes(photos[:3], cache, "b" * 64) == expected
    monkeypatch.setattr("pipelines.datasets.cache.allocate", Mock(side_effect=OSError(number, "full")))
    with pytest.raises(OSError, match=r"^OPSCORE_CACHE must have .* free for the decoded images, got .*: make room"):
        data(photos[:50])


@pytest.mark.parametrize("text", ["", "no json", "[1]", '[["x", 1]]', '{"a": 2}'])
def test_damaged_hashes_are_computed_anew(photos, cache, text: str) -> None:
    cache.note("a" * 64, text)
    assert len(content_hashes(photos[:3], cache, "a" * 64)) == 3


def test_missing_file_is_named(photos, cache) -> None:
    Path(photos[2]).unlink()
    with pytest.raises(ValueError, match=r"2.png must be a file, got a link to nothing: mend"):
        content_hashes(photos, cache, "a" * 64)


@pytest.mark.slow
def test_decoding_processes_end_with_their_parent(photos, tmp_path) -> None:
    script = """
import sys
from pipelines.datasets import decoded
from tests.datasets.test_decoded import data
from tests.decoders import endless
decoded.BYTES_PER_PROCESS = 1
if __name__ == "__main__":
    data(sys.argv[1:], endless)
"""
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, tmp_path / "script.py", *photos]
    process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
    until((tmp_path / "photos/begun").exists)
    begun = psutil.Process(process.pid).children()
    assert len(begun) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(begun, timeout=20)
    assert alive == []
    assert data(photos)[1] == len(photos)


@pytest.mark.parametrize(
    ("sizes", "max_files", "lengths"),
    [
        ([1] * 7, 3, [3, 3, 1]),
        ([2**20] * 3, 3, [1, 1, 1]),
        ([2**19, 2**18, 2**19, 5], 9, [3, 1]),
        ([], 3, []),
    ],
)
def test_chunks_are_bounded_by_images_and_by_bytes_of_files(sizes, max_files: int, lengths) -> None:
    paths = [str(number) for number in range(len(sizes))]
    chunks = list(_chunks(paths, sizes, max_files=max_files))
    assert [len(chunk) for _, chunk in chunks] == lengths
    assert [path for _, chunk in chunks for path in chunk] == paths
    assert [start for start, _ in chunks] == list(np.cumsum([0, *lengths])[:-1])
