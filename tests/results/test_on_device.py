"""Figures of devices among a run's metrics."""

import math

import pytest

from pipelines.results.on_device import fastest, figures

METRICS = {
    "test/accuracy": 0.9,
    "measure/pi/litert/p50_ms_1t": 4.0,
    "measure/pi/litert/p99_ms_1t": math.nan,
    "measure/pi/openvino/p50_ms_1t": 3.0,
    "measure/pi/openvino/p50_low_ms_1t": 2.9,
    "measure/pi/openvino/p50_high_ms_1t": 3.2,
    "measure/pi/openvino/p50_ms_4t": 1.0,
    "measure/pi/openvino/ratio_1t": 0.5,
    "measure/pi/openvino/ratio_low_1t": 0.4,
    "measure/pi/openvino/ratio_high_1t": 0.6,
    "measure/laptop/litert/p50_ms_1t": 1.5,
}


def test_devices_and_runtimes_by_name() -> None:
    laptop, litert, openvino = figures(
        METRICS, {"measure/pi/openvino/version": "openvino 1", "measure/pi/litert/began": "1"}
    )
    assert (laptop.target, laptop.runtime) == ("laptop", "litert")
    assert (litert.target, litert.runtime, litert.metrics) == ("pi", "litert", {"p50_ms_1t": 4.0})
    assert openvino.threads == (1, 4) and openvino.tags == {"version": "openvino 1"}
    assert openvino.p50_ms(1) == (3.0, 2.9, 3.2)
    assert openvino.ratio(1) == (0.5, 0.4, 0.6)
    # Without an interval, the bounds are the value; the reference has no ratio.
    assert litert.p50_ms(1) == (4.0, 4.0, 4.0) and litert.ratio(1) is None
    assert litert.agreement is None and litert.same_answers


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ("openvino", 4)),
        ({"measure/pi/openvino/agreement_changed": 0.02}, ("litert", 1)),
        ({"measure/pi/openvino/agreement_changed": 0.01}, ("openvino", 4)),
        # As good as equal: LiteRT, and fewer threads.
        ({"measure/pi/litert/p50_ms_1t": 1.01}, ("litert", 1)),
        ({"measure/pi/openvino/p50_ms_1t": 1.01}, ("openvino", 1)),
        # What disturbs a session makes times longer.
        ({"measure/pi/openvino/valid_4t": 0.0}, ("openvino", 4)),
    ],
)
def test_fastest_gives_the_same_answers(more: dict[str, float], expected: tuple[str, int]) -> None:
    found = fastest([one for one in figures(METRICS | more) if one.target == "pi"])
    assert found is not None
    assert (found[0].runtime, found[1]) == expected


def test_numbers_of_threads_compete_by_their_times() -> None:
    """A ratio is to the reference with as many threads."""
    tags = {f"measure/pi/{runtime}/reference": "litert a" for runtime in ("litert", "openvino")}
    reference = {"measure/pi/litert/p50_ms_1t": 10.0, "measure/pi/litert/p50_ms_4t": 4.0}
    found = fastest(figures(reference, tags))
    assert found is not None and (found[0].runtime, found[1]) == ("litert", 4)
    # OpenVINO's median with four threads is of a busy minute.
    other = {"p50_ms_1t": 5.0, "ratio_1t": 0.5, "p50_ms_4t": 4.4, "ratio_4t": 0.6}
    bounds = {f"ratio_{end}_{threads}t": 0.5 for end in ("low", "high") for threads in (1, 4)}
    metrics = reference | {f"measure/pi/openvino/{name}": value for name, value in (other | bounds).items()}
    found = fastest(figures(metrics, tags))
    assert found is not None and (found[0].runtime, found[1]) == ("openvino", 4)


def test_reliability_is_that_of_a_number_of_threads() -> None:
    more = {"measure/pi/openvino/valid": 0.0, "measure/pi/openvino/valid_1t": 1.0, "measure/pi/openvino/valid_4t": 0.0}
    *_, openvino = figures(METRICS | more)
    assert openvino.is_reliable(1) and not openvino.is_reliable(4)


def test_nothing_was_measured() -> None:
    assert fastest(figures({"test/accuracy": 0.9})) is None
