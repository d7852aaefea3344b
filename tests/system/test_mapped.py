from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets.base import Split, content_digest
from pipelines.system.mapped import Rows, blocks, in_file, region_of, sample


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3), np.uint8)


@pytest.fixture
def mapped(array: np.ndarray, tmp_path: Path) -> np.ndarray:
    np.save(tmp_path / "array.npy", array)
    return np.load(tmp_path / "array.npy", mmap_mode="r")


@pytest.mark.parametrize("part", [slice(None), slice(7, 31), slice(49, 50)])
def test_a_slice_is_found_in_its_file(array, mapped, part: slice) -> None:
    region = region_of(mapped[part])
    assert region is not None
    assert region.offset == 128 + 60 * part.indices(50)[0]
    assert np.array_equal(Rows(region)(np.arange(len(array[part]))), array[part])


def test_slice_of_a_slice_of_a_mapping_with_an_offset(array, tmp_path) -> None:
    array.tofile(tmp_path / "raw")
    part = np.memmap(tmp_path / "raw", np.uint8, "r", offset=60 * 10, shape=(40, 4, 5, 3))[5:][2:9]
    region = region_of(part)
    assert region is not None and region.offset == 60 * 17
    assert np.array_equal(region.mapped(), array[17:24])


@pytest.mark.parametrize(
    "view", [lambda m: m[::2], lambda m: m[:, 1:], lambda m: m[[1, 2]], np.array, lambda m: np.take(m, [1], axis=0)]
)
def test_copies_and_strided_views_have_no_region(mapped, view) -> None:
    assert region_of(view(mapped)) is None


def test_rows_come_in_the_order_of_the_index(array, mapped) -> None:
    index = np.array([48, 0, 3, 3])
    region = region_of(mapped[1:])
    assert region is not None
    assert np.array_equal(Rows(region)(index), array[1:][index])


def test_a_truncated_file_is_named(mapped, tmp_path) -> None:
    region = region_of(mapped)
    assert region is not None
    with (tmp_path / "array.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(OSError, match=r"array.npy must hold 50 rows, got a shorter file"):
        Rows(region)(np.array([49]))


@pytest.mark.parametrize("size", [1, 60, 1000, 10**9])
def test_blocks_are_all_rows_in_order(array, mapped, size: int) -> None:
    for one in (array, mapped, mapped[3:47]):
        found = [block.copy() for block in blocks(one, size)]
        assert np.array_equal(np.concatenate(found), one)
        assert {len(block) for block in found[:-1]} <= {max(1, size // 60)}
        assert np.array_equal(sample(one, size), one[: max(1, size // 60)])


def test_only_arrays_in_memory_are_written_to_a_file(array, mapped, tmp_path) -> None:
    assert np.array_equal(in_file(array, tmp_path / "spare.npy").mapped(), array)
    assert in_file(mapped[2:], tmp_path / "other.npy") == region_of(mapped[2:])
    assert not (tmp_path / "other.npy").exists()


def test_the_digest_is_that_of_the_array_in_memory(array, mapped) -> None:
    labels = np.arange(50)
    in_memory, in_map = Split(images=array, labels=labels), Split(images=mapped, labels=labels)
    assert content_digest((in_memory,), ("a", "b")) == content_digest((in_map,), ("a", "b"))
    assert in_memory.digest == in_map.digest == Split(images=array, labels=labels, known_digest=in_memory.digest).digest
