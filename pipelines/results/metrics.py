"""The names under which a cell's results stand in MLflow."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from pipelines.results.records import CellResult


def metrics_of(result: CellResult) -> dict[str, float]:
    """All numbers of a finished cell by MLflow name; what does not exist for it is absent, never zero."""
    measured, timing = result.measurement, result.timing
    metrics: dict[str, float] = {
        "test/accuracy": measured.accuracy,
        "test/top5_accuracy": measured.top5_accuracy,
        "time/train_s": timing.train_s,
        "time/train_total_s": timing.train_total_s,
        "time/optimize_s": timing.optimize_s,
        "time/convert_s": timing.convert_s,
        "time/test_ms_p50": measured.p50_ms,
        "time/test_ms_p90": measured.p90_ms,
        "time/test_ms_p99": measured.p99_ms,
        "time/images_per_s": measured.images_per_s,
        "time/load_ms": measured.load_ms,
        "time/first_call_ms": measured.first_call_ms,
        "size/file_bytes": measured.file_bytes,
        "size/compressed_bytes": measured.compressed_bytes,
        "model/parameters": result.complexity.parameters,
        "model/macs": result.complexity.macs,
        "model/sparsity": result.complexity.sparsity,
        "score/operational": result.score.total,
    }
    if result.majority is not None:
        metrics["test/majority_share"] = result.majority.share
        metrics["test/majority_p_value"] = result.majority.p_value
    metrics |= {f"score/{name}_db": value for name, value in asdict(result.score).items()}
    metrics |= result.metrics
    metrics |= {f"energy/train_{name}_j": value for name, value in result.joules.items()}
    if result.comparison is not None:
        beside = result.comparison
        metrics["score/gain_db"] = beside.gain.total
        metrics |= {f"score/gain_{name}_db": value for name, value in asdict(beside.gain).items()}
        metrics["baseline/time_ratio"] = beside.latency_ratio
        metrics["baseline/time_ratio_low"] = beside.ratio_low
        metrics["baseline/time_ratio_high"] = beside.ratio_high
        metrics["baseline/accuracy_p_value"] = beside.accuracy_p_value
        metrics["baseline/dimensions_improved"] = beside.dimensions_improved
    return metrics


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested dictionaries under dotted names."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
