import gc
from time import perf_counter_ns

import numpy as np
import pytest

from pipelines.litert.latency import Percentiles, time_interleaved
from pipelines.results.statistics import ratio_interval


def busy(microseconds: int):
    def query(image: np.ndarray) -> None:
        end = perf_counter_ns() + 1000 * microseconds
        while perf_counter_ns() < end:
            pass

    return query


class TestTiming:
    IMAGES = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)

    def trace(self, seed: int, calls: int = 20) -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        queries = [lambda image, name=name: seen.append((name, int(image[0, 0, 0]))) for name in "ab"]
        time_interleaved(queries, self.IMAGES, warmup_calls=4, min_duration_s=0, min_calls=calls, seed=seed)
        return seen

    def test_each_round_asks_all_about_one_image(self):
        seen = self.trace(seed=0)[8:]
        for index in range(20):
            pair = seen[2 * index : 2 * index + 2]
            assert {name for name, _ in pair} == {"a", "b"}
            assert {image for _, image in pair} == {index % 3}

    def test_warm_up_comes_first_and_is_not_counted(self):
        seen = self.trace(seed=0, calls=1)
        assert seen[:8] == [(name, index % 3) for index in range(4) for name in "ab"]
        assert len(seen) == 10

    @pytest.mark.slow
    def test_order_is_random_and_follows_the_seed(self):
        assert self.trace(seed=1) == self.trace(seed=1)
        assert self.trace(seed=1) != self.trace(seed=2)
        assert {name for name, _ in self.trace(seed=1)[8::2]} == {"a", "b"}

    @pytest.mark.parametrize(("min_duration_s", "min_calls", "least"), [(0.0, 7, 7), (0.02, 1, 40), (0.001, 30, 30)])
    def test_goes_on_until_duration_and_calls_are_met(self, min_duration_s, min_calls, least):
        times = time_interleaved(
            [busy(500), busy(1000)],
            self.IMAGES,
            warmup_calls=0,
            min_duration_s=min_duration_s,
            min_calls=min_calls,
            seed=0,
        )
        assert len(times[0]) == len(times[1]) >= min_calls
        assert all(taken.dtype == np.int64 for taken in times)
        assert sum(taken.sum() for taken in times) >= min_duration_s * 1e9 * len(times)
        # The last round was needed.
        assert len(times[0]) == min_calls or sum(taken[:-1].sum() for taken in times) < (
            min_duration_s * 1e9 * len(times)
        )
        assert len(times[0]) <= least
        assert times[0].min() >= 500_000

    def test_ratio_of_known_durations(self):
        times = time_interleaved(
            [busy(150), busy(300)], self.IMAGES, warmup_calls=5, min_duration_s=0, min_calls=400, seed=0
        )
        ratio, low, high = ratio_interval(times[0], times[1], seed=0)
        assert low <= ratio <= high
        assert ratio == pytest.approx(0.5, rel=0.1)

    def test_garbage_collection_comes_back(self):
        seen = []
        time_interleaved(
            [lambda image: seen.append(gc.isenabled())],
            self.IMAGES,
            warmup_calls=0,
            min_duration_s=0,
            min_calls=1,
            seed=0,
        )
        assert seen == [False]
        assert gc.isenabled()

    def test_percentiles_by_hand(self):
        found = Percentiles.of(np.arange(0, 101_000_000, 1_000_000))
        assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((50, 90, 99))
        assert Percentiles.of(np.array([1_000_000, 2_000_000])).p90_ms == pytest.approx(1.9)
