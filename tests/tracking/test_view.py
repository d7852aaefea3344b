import json

from pipelines.tracking import view


def test_rounded_metrics_have_few_digits() -> None:
    metrics = {
        "score/operational": 96.1618, "test/accuracy": 0.986072, "time/test_ms_p50": 0.0126689,
        "size/compressed_bytes": 79122.0, "other": 1.0,
    }  # fmt: skip
    assert view.rounded(metrics) == {"score dB": 96.2, "accuracy": 0.9861, "test ms": 0.0127, "size kB": 79.1}
    assert view.rounded({"size/compressed_bytes": 98_765_432.0}) == {"size kB": 98800.0}


def test_view_sorts_by_the_recorded_score() -> None:
    state = json.loads(view.state())
    assert state["orderByKey"] == "metrics.`score/operational`" and not state["orderByAsc"]
    assert state["columnOrder"][1:7] == [view.NAME, *(f"metrics.`{name}`" for name in view.ROUNDED)]
