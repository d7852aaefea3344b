"""Percentiles, ratios and validity, against values by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pipelines.device import results
from pipelines.device.raw import Consumption
from pipelines.device.table import text
from pipelines.litert.latency import Load
from pipelines.results.statistics import approximate_t_quantile
from tests.device.recorded_runs import FAST


def loads_of(*medians_ms: float, calls: int = 40, windows: Sequence[int] | None = None) -> list[Load]:
    """A load of constant calls for each median, in four bursts."""
    windows = windows or range(len(medians_ms))
    return [
        Load(window=window, ns=np.full(calls, int(ms * 1e6)), bursts=np.full(4, calls // 4))
        for ms, window in zip(medians_ms, windows, strict=True)
    ]


class TestLatency:
    SETTINGS = replace(FAST, min_calls=200, min_duration_s=0.2)

    def test_by_hand(self):
        # The candidate takes half the reference's time in each load, whatever the machine does.
        own, reference = loads_of(1, 1.01, 1.02, 1.03, 1.04), loads_of(2, 2.02, 2.04, 2.06, 2.08)
        found = results.latency(own, reference, self.SETTINGS)
        assert (found.calls, found.seconds, found.p50_ms) == pytest.approx((200, 0.204, 1.02))
        assert found.windows_ms == pytest.approx((1, 1.01, 1.02, 1.03, 1.04))
        half = approximate_t_quantile(4) * np.log([1, 1.01, 1.02, 1.03, 1.04]).std(ddof=1) * math.sqrt(2 / 5)
        assert math.log(found.p50_high_ms / 1.02) == pytest.approx(half, rel=0.05)
        assert math.log(1.02 / found.p50_low_ms) == pytest.approx(half, rel=0.05)
        # Its windows do not agree on the time, but on the ratio.
        assert (found.ratio, found.ratio_low, found.ratio_high) == pytest.approx((0.5, 0.495, 0.505))
        assert found.p99_ms is None and found.invalid == ()

    def test_interval_of_a_ratio_is_at_least_one_percent(self):
        found = results.latency(loads_of(*[1] * 5), loads_of(*[2] * 5), self.SETTINGS)
        assert (found.p50_low_ms, found.p50_high_ms) == pytest.approx((1, 1))
        assert (found.ratio, found.ratio_low, found.ratio_high) == pytest.approx((0.5, 0.495, 0.505))

    def test_windows_that_disagree_on_the_ratio_widen_it(self):
        own, reference = loads_of(1, 1.1, 1.2, 1.3, 1.4), loads_of(*[2] * 5)
        found = results.latency(own, reference, self.SETTINGS)
        assert found.ratio == pytest.approx(0.5)
        assert found.ratio_low is not None and found.ratio_high is not None
        assert found.ratio_low < 0.45 and found.ratio_high > 0.55

    def test_a_99th_percentile_needs_662_calls(self):
        assert results.latency(loads_of(*[1] * 5, calls=132), None, self.SETTINGS).p99_ms is None
        assert results.latency(loads_of(*[1] * 5, calls=136), None, self.SETTINGS).p99_ms == 1

    @pytest.mark.parametrize("disturbed", [1, 3, 4])
    def test_ratio_of_undisturbed_times(self, disturbed):
        # During a disturbance one model takes twice as long, the other a third more.
        own, reference = (
            loads_of(*[2] * disturbed, *[1] * (5 - disturbed)),
            loads_of(*[4] * disturbed, *[3] * (5 - disturbed)),
        )
        found = results.latency(own, reference, self.SETTINGS)
        assert found.ratio == pytest.approx(1 / 3)
        assert found.ratio_low is not None and found.ratio_high is not None
        assert found.ratio_low <= 1 / 3 <= found.ratio_high
        # A repeated session may well have no undisturbed window: the interval includes it.
        assert (found.ratio_high >= 1 / 2) == (disturbed > 2)

    @pytest.mark.parametrize(
        ("loads", "settings", "reasons"),
        [
            (loads_of(*[1] * 5), {"min_calls": 201}, ["201 calls must be timed, got 200 within limit=60 s"]),
            (loads_of(*[1] * 5), {"min_duration_s": 1.0}, ["1 s must be timed, got 0.20 s within limit=60 s"]),
            (loads_of(1, 1, 1, 1, 1.1), {}, []),
            (
                loads_of(1, 1, 1, 1, 1.11),
                {},
                ["the medians of 5 windows must agree within 10%, got 1 to 1.11 ms"],
            ),
            (
                loads_of(1, 2, 2, 2, 2),
                {"min_calls": 662, "min_duration_s": 10},
                ["10 s must be", "662 calls must be", "the medians of 5 windows"],
            ),
            # Two loads of a window count together.
            (loads_of(1, 1.18, 1, 1.18, windows=[0, 0, 1, 1], calls=52), {}, []),
        ],
    )
    def test_validity(self, loads, settings, reasons):
        found = results.latency(loads, None, replace(self.SETTINGS, **settings)).invalid
        assert len(found) == len(reasons)
        for got, expected in zip(found, reasons, strict=True):
            assert got.startswith(expected)


def result(label: str, *medians_ms: float) -> results.DeviceResult:
    """With one thread and a time of each window."""
    return results.DeviceResult(
        label=label,
        runtime="litert",
        version="",
        precision="float32",
        sha256="",
        file_bytes=1,
        runs=(),
        reference=None,
        load_ms=1.0,
        first_call_ms=1.0,
        peak_memory_mb=1.0,
        latency={1: results.latency(loads_of(*medians_ms), None, TestLatency.SETTINGS)},
        throughput_threads=1,
        images_per_s={},
        refused={},
        consumption={},
        delegation=None,
        agreement=None,
    )


def test_reliability_is_recorded_by_number_of_threads() -> None:
    both = replace(
        result("a", *[1] * 5), latency=result("a", 1, 1, 1, 1, 2).latency | {2: result("a", *[1] * 5).latency[1]}
    )
    metrics = both.metrics()
    assert (metrics["valid"], metrics["valid_1t"], metrics["valid_2t"]) == (0, 0, 1)


def test_energy_that_one_model_lacks_is_a_dash() -> None:
    # A counter started again during its pass.
    used = Consumption(images=10, joules={"cpu": 0.5, "dram": 0.1})
    lacking = Consumption(images=10, joules={"dram": 0.1})
    for first, second, expected in ((used, lacking, "50.0 -"), (lacking, used, "- 50.0")):
        both = [replace(result("a", 1, 1), consumption={1: first}), replace(result("b", 1, 1), consumption={1: second})]
        heading, *rows = text(both).split("\n\n")[1].splitlines()
        end = heading.index("cpu mJ, 1t") + len("cpu mJ, 1t")
        assert " ".join(row[:end].split()[-1] for row in rows) == expected
    # Its pass failed.
    shown = text([replace(result("a", 1, 1), consumption={}), replace(result("b", 1, 1), consumption={1: used})])
    assert "cpu mJ, 1t" in shown and "50.0" in shown


def test_many_reasons_of_a_kind_are_counted() -> None:
    shown = text([result(f"model{number}", 1, 1, 1, 1, 2) for number in range(9)])
    assert shown.count("the medians of 5 windows must agree") == 4
    assert "INVALID for the same reason: 5 more, which each model's result.json names." in shown
    assert shown.count("Windows agree if the machine") == 1
    assert "more, which" not in text([result("model", 1, 1, 1, 1, 2)])


def test_the_name_of_a_model_calls_for_no_remedy() -> None:
    one = result("windows limit=.tflite", 1, 1, 1, 1, 1)
    changed = replace(one.latency[1], invalid=("the file of windows limit=.tflite changed meanwhile: measure again",))
    shown = text([replace(one, latency={1: changed})])
    assert "INVALID windows limit=.tflite, 1 thread: the file of windows limit=.tflite changed" in shown
    assert "Windows agree" not in shown and "Set a higher limit=" not in shown
