"""Bursts of calls and batches, on real exported models."""

import math
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from pipelines.litert.exported_model import ExportedModel, image_shape
from pipelines.litert.stream import BURST_S, check_same, random_images, time_bursts


class TestBursts:
    def trace(self, seed: int, rounds: int) -> tuple[list[str], list]:
        seen: list[str] = []
        calls = [lambda name=name: seen.append(name) for name in "abc"]
        timed = time_bursts(calls, warmup_calls=3, min_duration_s=0, min_calls=rounds, limit_s=60, seed=seed)
        return seen, timed

    def test_warm_up_comes_first_and_a_round_has_one_burst_each(self):
        seen, timed = self.trace(0, rounds=1)
        assert seen[:9] == list("aaabbbccc")
        turns = [name for index, name in enumerate(seen[9:]) if index == 0 or seen[8 + index] != name]
        assert sorted(turns) == list("abc")
        for name, (ns, bursts) in zip("abc", timed, strict=True):
            assert bursts.tolist() == [len(ns)]
            # Three warm-up calls, and one at the start of the burst.
            assert seen.count(name) == len(ns) + 4

    @pytest.mark.slow
    def test_slow_calls_have_five_per_burst_and_fast_ones_many(self):
        def slow() -> None:
            end = perf_counter() + 2 * BURST_S
            while perf_counter() < end:
                pass

        (slow_ns, slow_bursts), (_, fast_bursts) = time_bursts(
            [slow, lambda: None], warmup_calls=0, min_duration_s=0, min_calls=15, limit_s=60, seed=0
        )
        assert slow_bursts.tolist() == [5, 5, 5]
        assert len(fast_bursts) == 3 and fast_bursts.min() > 10
        assert slow_ns.min() >= 2 * BURST_S * 1e9

    def test_goes_on_until_the_duration_is_met(self):
        timed = time_bursts([lambda: None] * 2, warmup_calls=0, min_duration_s=0.06, min_calls=1, limit_s=60, seed=0)
        assert all(ns.sum() >= 0.06e9 for ns, _ in timed)

    def test_duration_on_average(self):
        def slow() -> None:
            end = perf_counter() + BURST_S
            while perf_counter() < end:
                pass

        # In each round 5 calls of 20 ms and a burst of 20 ms: 60 ms on average.
        timed = time_bursts(
            [slow, lambda: None],
            warmup_calls=0, min_duration_s=0.1, min_calls=1, limit_s=60, seed=0, on_average=True,
        )  # fmt: skip
        assert [len(bursts) for _, bursts in timed] == [2, 2]

    def test_the_limit_ends_it_after_a_whole_round(self):
        timed = time_bursts([lambda: None] * 2, warmup_calls=0, min_duration_s=60, min_calls=1, limit_s=0, seed=0)
        assert [len(bursts) for _, bursts in timed] == [1, 1]

    def test_nothing_to_time(self):
        assert time_bursts([], warmup_calls=0, min_duration_s=60, min_calls=1, limit_s=60, seed=0) == []


class TestBatch:
    @pytest.mark.parametrize("name", ["float32", "uint8", "int8"])
    def test_answers_equal_those_of_single_images(self, made, name):
        images = random_images((8, 8, 3), 8, seed=0)
        path = made / f"{name}.tflite"
        together = ExportedModel(path, batch=8).query_batch(images)
        assert together.shape == (8, 10)
        check_same(ExportedModel(path).logits(images), together, path)

    def test_a_fixed_batch_of_one_is_refused(self, made):
        with pytest.raises(
            ValueError, match=r"single.tflite must take 8 images at once with builtin operators only, got"
        ):
            ExportedModel(made / "single.tflite", batch=8)

    @pytest.mark.parametrize("wrong", [1.0, math.nan])
    def test_other_answers_are_refused(self, wrong):
        single = np.array([[0.0, 1.0]], np.float32)
        with pytest.raises(ValueError, match="must give the same logits in a batch"):
            check_same(single, single + np.float32(wrong), Path("x"))

    def test_image_shape_without_loading(self, made):
        assert image_shape(made / "int8.tflite") == (8, 8, 3)
        with pytest.raises(ValueError, match=r"gray.tflite must have one input \(1, h, w, 3\)"):
            image_shape(made / "gray.tflite")

    def test_random_images_follow_the_seed(self):
        one, same, other = (random_images((2, 3, 3), 4, seed) for seed in (0, 0, 1))
        assert one.shape == (4, 2, 3, 3) and one.dtype == np.uint8
        assert np.array_equal(one, same) and not np.array_equal(one, other)
