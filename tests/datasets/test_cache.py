import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.datasets.cache import GB, MARGIN_BYTES, Cache
from tests.places import ROOT, until

KEYS = ["a" * 64, "b" * 64, "c" * 64, "d" * 64]
SHAPE = (10, 10, 10, 3)
SIZE = 3000 + 128 + len('{"n": 1}')


def cache(folder: Path, entries: int = 2) -> Cache:
    """A cache with room for `entries` arrays of SHAPE."""
    return Cache(folder=folder, limit_bytes=entries * SIZE + MARGIN_BYTES)


def filled(value: int):
    def make(path: Path) -> dict[str, int]:
        np.load(path, mmap_mode="r+")[:] = value
        return {"n": value}

    return make


def never(path: Path) -> dict[str, int]:
    raise AssertionError("made again")


def returned(facts: dict[str, Any], path: Path) -> dict[str, Any]:
    return facts


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_entry_is_made_once_and_found_again(tmp_path) -> None:
    images, facts = cache(tmp_path).entry(KEYS[0], SHAPE, filled(7))
    assert images.shape == SHAPE and images.dtype == np.uint8 and facts == {"n": 7}
    assert (images == 7).all()
    assert not images.flags.writeable
    again, facts = cache(tmp_path).entry(KEYS[0], SHAPE, never)
    assert np.array_equal(again, images) and facts == {"n": 7}
    assert names(tmp_path) == {f"{KEYS[0]}.npy", f"{KEYS[0]}.json"}


def test_least_recently_used_entry_is_evicted_first(tmp_path) -> None:
    for age, key in enumerate(KEYS[:2]):
        cache(tmp_path).entry(key, SHAPE, filled(1))
        os.utime(tmp_path / f"{key}.npy", (age, age))
        os.utime(tmp_path / f"{key}.json", (age, age))
    cache(tmp_path).entry(KEYS[0], SHAPE, never)  # used again, so that the second is the older one
    cache(tmp_path).entry(KEYS[2], SHAPE, filled(1))
    assert [one.key for one in cache(tmp_path).stored()] == [KEYS[0], KEYS[2]]
    assert names(tmp_path) == {f"{key}.{kind}" for key in (KEYS[0], KEYS[2]) for kind in ("npy", "json")}


def test_entry_stays_while_a_view_of_it_is_held(tmp_path) -> None:
    view = cache(tmp_path, 1).entry(KEYS[0], SHAPE, filled(1))[0][3:5]
    with pytest.raises(
        ValueError, match=r"OPSCORE_CACHE_GB must leave 0.0 MB .* in addition to 0.0 MB of images in use"
    ):
        cache(tmp_path, 1).entry(KEYS[1], SHAPE, filled(2))
    assert not cache(tmp_path, 1).remove(KEYS[0])
    del view
    cache(tmp_path, 1).entry(KEYS[1], SHAPE, filled(2))
    assert [one.key for one in cache(tmp_path).stored()] == [KEYS[1]]


def test_array_larger_than_the_limit_is_refused_at_once(tmp_path) -> None:
    cache(tmp_path, 1).entry(KEYS[0], SHAPE, filled(1))
    wanted = (3, 1000, 1000, 1000)
    with pytest.raises(ValueError, match=r"must leave 3.00 GB .*: export OPSCORE_CACHE_GB=4"):
        Cache(folder=tmp_path, limit_bytes=2 * GB).entry(KEYS[1], wanted, never)
    assert f"{KEYS[0]}.npy" in names(tmp_path)


def test_full_disk_is_refused_before_anything_is_made(tmp_path) -> None:
    free = shutil.disk_usage(tmp_path).free
    large = Cache(folder=tmp_path, limit_bytes=10 * free)
    with pytest.raises(OSError, match=r"must have [\d.]+ GB free .*, got [\d.]+ GB in .*: make room there, or export"):
        large.entry(KEYS[1], (free // 1000 + 1, 1000), never)
    assert names(tmp_path) == set()


def test_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = f"""
import numpy as np, pipelines.datasets.cache as c
from pathlib import Path
c.SPARE_BYTES = 0
def make(path):
    Path({str(disk)!r}, "other").write_bytes(bytes(2**21))
c.Cache(folder=Path({str(disk)!r}), limit_bytes=10**9).entry("a" * 64, (3 * 2**20,), make)
"""
    command = f'mount -t tmpfs -o size=4m none {disk} && "{sys.executable}" -c "$0"; ls {disk}'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", command, script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip("no file system of one's own here")
    assert "OSError: OPSCORE_CACHE must have 3.1 MB free for the decoded images" in done.stderr
    assert done.stdout.split() == [f"{KEYS[0]}.lock", "other", "room.lock"]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None])
def test_damaged_entry_is_made_again(tmp_path, damage: bytes | None) -> None:
    cache(tmp_path).entry(KEYS[0], SHAPE, filled(1))
    path = tmp_path / f"{KEYS[0]}.npy"
    with path.open("r+b") as file:
        file.truncate(1000 if damage is None else 0)
        file.write(damage or b"")
    images, _ = cache(tmp_path).entry(KEYS[0], SHAPE, filled(2))
    assert (images == 2).all()


def test_failed_entry_leaves_nothing_and_can_be_retried(tmp_path) -> None:
    with pytest.raises(AssertionError, match="made again"):
        cache(tmp_path).entry(KEYS[0], SHAPE, never)
    assert names(tmp_path) == set()
    assert cache(tmp_path).entry(KEYS[0], SHAPE, filled(5))[1] == {"n": 5}


def test_foreign_files_in_the_folder_are_not_touched(tmp_path) -> None:
    (tmp_path / "photo.npy").write_bytes(b"mine")
    (tmp_path / f"{KEYS[0]}.jpg").write_bytes(b"mine")
    held = cache(tmp_path)
    held.entry(KEYS[0], SHAPE, filled(1))
    assert held.remove(KEYS[0])
    assert names(tmp_path) == {"photo.npy", f"{KEYS[0]}.jpg"}


def slowly(folder: Path, made: Path) -> None:
    def make(path: Path) -> dict[str, int]:
        with made.open("a") as file:
            file.write("made\n")
        time.sleep(0.5)
        return filled(9)(path)

    images, _ = cache(folder).entry(KEYS[0], SHAPE, make)
    assert (images == 9).all()


def test_one_of_eight_concurrent_processes_makes_it(tmp_path) -> None:
    made = tmp_path / "made"
    spawn = multiprocessing.get_context("fork")
    processes = [spawn.Process(target=slowly, args=(tmp_path / "cache", made)) for _ in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 8
    assert made.read_text() == "made\n"


def crowd(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        number = int(rng.integers(4))
        try:
            images, facts = cache(folder, 2).entry(KEYS[number], SHAPE, filled(number))
        except ValueError as error:
            assert "images in use" in str(error)  # by the other two
            continue
        assert (images == number).all() and facts == {"n": number}


def test_processes_that_evict_each_other_find_their_entries(tmp_path) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=crowd, args=(tmp_path, seed)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert cache(tmp_path)._used() <= 2 * SIZE


def test_killed_writer_leaves_no_complete_entry(tmp_path) -> None:
    def make(path: Path) -> dict[str, int]:
        np.load(path, mmap_mode="r+")[:5] = 1
        (tmp_path / "begun").touch()
        time.sleep(60)
        return {}

    fork = multiprocessing.get_context("fork")
    folder = tmp_path / "cache"
    process = fork.Process(target=lambda: cache(folder).entry(KEYS[0], SHAPE, make))
    process.start()
    until((tmp_path / "begun").exists, seconds=20)
    assert cache(folder).stored()[0].in_use and not cache(folder).remove(KEYS[0])
    os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    process.join()
    assert names(folder) == {f"{KEYS[0]}.{process.pid}.partial"}
    # The next entry that needs room deletes it.
    cache(folder, 1).entry(KEYS[1], SHAPE, filled(2))
    assert names(folder) == {f"{KEYS[1]}.npy", f"{KEYS[1]}.json"}
    assert (cache(folder).entry(KEYS[0], SHAPE, filled(3))[0] == 3).all()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"OPSCORE_CACHE_GB": "lots"},
            r"OPSCORE_CACHE_GB must be a number above 0.*got 'lots': export OPSCORE_CACHE_GB=",
        ),
        ({"OPSCORE_CACHE_GB": "0"}, r"got '0'"),
        ({"OPSCORE_CACHE_GB": "nan"}, r"got 'nan'"),
        ({"OPSCORE_CACHE": "/proc/nowhere"}, r"OPSCORE_CACHE must be a writable folder, got /proc/nowhere"),
        ({"OPSCORE_CACHE": __file__}, r"OPSCORE_CACHE must be a writable folder, got .*test_cache.py"),
    ],
)
def test_invalid_environment_is_refused(monkeypatch, environment: dict[str, str], message: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        Cache.of_environment().entry(KEYS[0], SHAPE, never)


def test_default_folder_is_the_users_cache_directory(monkeypatch, tmp_path) -> None:
    for name in ("OPSCORE_CACHE", "OPSCORE_CACHE_GB", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Cache.of_environment() == Cache(folder=tmp_path / ".cache/opscore/images", limit_bytes=100 * GB)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert Cache.of_environment().folder == tmp_path / "xdg/opscore/images"
    monkeypatch.setenv("OPSCORE_CACHE", "~/mine")
    monkeypatch.setenv("OPSCORE_CACHE_GB", "2.5")
    assert Cache.of_environment() == Cache(folder=tmp_path / "mine/images", limit_bytes=5 * GB // 2)


@pytest.mark.slow
def test_command_shows_and_clears(tmp_path) -> None:
    environment = os.environ | {"OPSCORE_CACHE": str(tmp_path)}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "pipelines", "cache", *arguments]
        return subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)

    assert "0.0 MB of at most 100 GB are taken" in command().stdout
    assert not (tmp_path / "images").exists()
    held = Cache(folder=tmp_path / "images", limit_bytes=GB)
    for key in KEYS[:2]:
        facts = {"images": 1234, "side": 10, "folder": f"/photos/{key[0]}"}
        kept = held.entry(key, SHAPE, partial(returned, facts))[0]
    shown = command().stdout.splitlines()
    assert [line.split("  ")[1:4] for line in shown[:2]] == [
        ["1,234 images", "10 px", f"/photos/{name}"] for name in "ba"
    ]
    assert shown[0].endswith("in use") and "last used 20" in shown[1]
    assert ", 0.0 MB in use stay" in command("clear").stdout
    assert [one.key for one in held.stored()] == [KEYS[1]]
    del kept
    assert "stay" not in command("clear").stdout
    assert held.stored() == []
    assert command("clean").returncode == 2
