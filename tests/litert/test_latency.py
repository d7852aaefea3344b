"""Percentiles and ratios, against values by hand."""

import math

import numpy as np
import pytest

from pipelines.litert.latency import Load, Percentiles, loads_of, ratio, short_ratio, windows
from pipelines.results.statistics import approximate_t_quantile


def shared_machine(generator: np.random.Generator) -> tuple[list[Load], list[Load]]:
    """A session of two exported models, 5 windows of 2 loads of 8 bursts of 5 calls, on a shared machine.

    The place in memory of each load is random. During some bursts one model takes up to twice as long and the other up
    to half as long again. Single calls are interrupted.
    """
    sessions: tuple[list[Load], list[Load]] = ([], [])
    for window in range(5):
        for _ in range(2):
            load = np.repeat(generator.random() * (generator.random(8) < 0.6), 5)
            for loads, base_ns, slowdown in zip(sessions, (1e6, 3e6), (1.0, 0.5), strict=True):
                ns = base_ns * np.exp(generator.normal(0, 0.01)) * (1 + slowdown * load)
                ns = ns * (1 + 3 * (generator.random(40) < 0.2)) * np.exp(generator.normal(0, 0.005, 40))
                loads.append(Load(window=window, ns=ns.astype(np.int64), bursts=np.full(8, 5)))
    return sessions


def test_percentiles_by_hand() -> None:
    found = Percentiles.of(np.arange(0, 701_000_000, 1_000_000))
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((350, 630, 693))
    assert Percentiles.of(np.ones(661, np.int64)).p99_ms is None
    assert Percentiles.of(np.array([1_000_000, 2_000_000])).p90_ms == pytest.approx(1.9)


def test_loads_of_windows_by_hand() -> None:
    ns, bursts = np.arange(7), np.array([2, 1, 4])
    first, second = loads_of(ns, bursts, rounds=np.array([2, 1]))
    assert (first.window, first.ns.tolist(), first.bursts.tolist()) == (0, [0, 1, 2], [2, 1])
    assert (second.window, second.ns.tolist(), second.bursts.tolist()) == (1, [3, 4, 5, 6], [4])
    assert windows([second, first, second]) == [0, 1]


class TestRatio:
    def loads(self, *medians_us: float) -> list[Load]:
        """A window of four bursts of ten equal calls for each."""
        return [
            Load(window=window, ns=np.full(40, round(us * 1e3)), bursts=np.full(4, 10))
            for window, us in enumerate(medians_us)
        ]

    def test_equal_windows_have_the_least_width(self):
        assert ratio(self.loads(*[100] * 5), self.loads(*[200] * 5), seed=0) == pytest.approx((0.5, 0.495, 0.505))

    def test_windows_that_disagree_widen_it(self):
        value, low, high = ratio(self.loads(100, 110, 120, 130, 140), self.loads(*[200] * 5), seed=0)
        assert value == pytest.approx(0.5)
        assert low < 0.45 and high > 0.55

    def test_two_windows_by_hand(self):
        # Resamples are both first, both second, or one of each, whose first decile is that of the faster window. Of
        # two sessions, one has the faster window and the other has not with probability 2 * 3/4 * 1/4.
        value, low, high = ratio(self.loads(100, 110), self.loads(200, 200), seed=0)
        widest = math.log(1.1) * math.sqrt(2) * approximate_t_quantile(1) / 1.959963984540054
        assert value == pytest.approx(0.5)
        assert (math.log(low / 0.5), math.log(high / 0.5)) == pytest.approx((-widest, widest))

    def test_one_window_is_refused(self):
        with pytest.raises(ValueError, match="there must be at least two windows, got 1"):
            ratio(self.loads(100), self.loads(200), seed=0)

    def test_short_measurement_adds_the_distance_to_medians(self):
        # Undisturbed: 100 and 200 us. In three of four bursts the first model takes 10% more: its median is 110 us.
        own = [
            Load(window=window, ns=np.repeat([100_000, 110_000, 110_000, 110_000], 10), bursts=np.full(4, 10))
            for window in range(5)
        ]
        value, low, high = short_ratio(own, self.loads(*[200] * 5), seed=0)
        assert value == pytest.approx(0.5)
        assert math.log(high / 0.5) == pytest.approx(math.sqrt(math.log(1.02) ** 2 + 2 * math.log(1.1) ** 2))
        assert math.log(0.5 / low) == pytest.approx(math.sqrt(math.log(0.98) ** 2 + 2 * math.log(1.1) ** 2))
        assert high > 110 / 200

    def test_short_undisturbed_measurement_has_the_least_width(self):
        own, reference = self.loads(*[100] * 5), self.loads(*[200] * 5)
        assert short_ratio(own, reference, seed=0) == pytest.approx((0.5, 0.49, 0.51))

    def test_interrupted_calls_do_not_count(self):
        # First deciles 1 and 10: the second burst was disturbed as a whole.
        own = [Load(window=w, ns=np.array([1, 900, 1, 1, 10, 900, 10]), bursts=np.array([4, 3])) for w in range(5)]
        reference = [Load(window=w, ns=np.array([2, 400]), bursts=np.array([1, 1])) for w in range(5)]
        assert ratio(own, reference, seed=0)[0] == pytest.approx(0.5)

    @pytest.mark.slow
    def test_interval_contains_a_repeated_session(self):
        inside = 0
        for seed in range(200):
            generator = np.random.default_rng(seed)
            first, second = (shared_machine(generator) for _ in "ab")
            _, low, high = ratio(*first, seed=0)
            inside += low <= ratio(*second, seed=0)[0] <= high
        # Three standard errors of 200 cases are 5%.
        assert inside / 200 >= 0.9
