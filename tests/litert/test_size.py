import gzip

import numpy as np
import pytest
from zlib_ng import zlib_ng

from pipelines.litert.size import PIECE, compressed_bytes


def test_zeros_compress_and_noise_does_not(tmp_path):
    zeros, noise = tmp_path / "zeros", tmp_path / "noise"
    zeros.write_bytes(bytes(100_000))
    noise.write_bytes(np.random.default_rng(0).bytes(100_000))
    assert compressed_bytes(zeros) < 200
    assert 100_000 <= compressed_bytes(noise) < 100_100


@pytest.mark.parametrize("length", [PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_pieces_take_as_much_as_the_whole_stream(tmp_path, length):
    # Each byte repeats one within the window before its piece, and nowhere else.
    content = np.resize(np.random.default_rng(0).integers(0, 256, 30_000, dtype=np.uint8), length).tobytes()
    (tmp_path / "repeats").write_bytes(content)
    assert compressed_bytes(tmp_path / "repeats") == pytest.approx(len(zlib_ng.compress(content, 6)), rel=0.002)


def test_compressed_size_of_clustered_and_pruned_weights(tmp_path):
    weights = np.random.default_rng(0).standard_normal(2**18).astype(np.float32)
    few = np.quantile(weights, np.linspace(0.03, 0.97, 16)).astype(np.float32)
    clustered = few[np.abs(weights[:, None] - few).argmin(axis=1)]
    pruned = np.where(np.abs(weights) < np.quantile(np.abs(weights), 0.8), np.float32(0), weights)
    for kept in (weights, clustered, pruned):
        (tmp_path / "weights").write_bytes(kept.tobytes())
        expected = len(gzip.compress(kept.tobytes(), 6))
        assert compressed_bytes(tmp_path / "weights") == pytest.approx(expected, rel=0.005)


def test_of_an_empty_file(tmp_path):
    (tmp_path / "empty").touch()
    assert compressed_bytes(tmp_path / "empty") == 8
