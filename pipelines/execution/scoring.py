"""The result of a cell, from its build and the measurement of its exported model."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.results import agreement, statistics, verdict
from pipelines.results.cell_result import BaselineComparison, CellResult, Delegation, Measurement, Timing
from pipelines.results.folder import Build, Finished
from pipelines.system import runtime

if TYPE_CHECKING:
    from pipelines.cells.cell import Cell
    from pipelines.datasets.base import ImageData
    from pipelines.litert.session import Result


def cell_result(
    cell: Cell,
    data: ImageData,
    *,
    fingerprint: str,
    build: Build,
    measured: Result,
    delegation: Delegation,
    baseline: Finished | None,
) -> CellResult:
    """Score the measurement, and compare it with the baseline's where there is one."""
    # Shared fields have the same names in both classes.
    own: dict[str, Any] = {
        "test_images": len(data.test),
        "chance": agreement.chance(measured.confusion),
        "balanced_accuracy": agreement.balanced_accuracy(measured.confusion),
    }
    shared = {one.name: getattr(measured, one.name) for one in fields(Measurement) if one.name not in own}
    measurement = Measurement(**shared, **own)
    comparison = (
        _comparison(cell, data, measured, measurement, timing=build.timing, baseline=baseline) if baseline else None
    )
    train_total_s = build.timing.train_total_s
    return CellResult(
        model=cell.model.name,
        dataset=cell.dataset.name,
        technique=cell.technique.name,
        seed=cell.seed,
        fingerprint=fingerprint,
        hardware=runtime.hardware(),
        measurement=measurement,
        timing=build.timing,
        complexity=build.complexity,
        score=cell.score.terms(measurement, train_total_s=train_total_s),
        violations=cell.score.violations(measurement, train_total_s=train_total_s, comparison=comparison),
        comparison=comparison,
        epochs=build.epochs,
        metrics=build.metrics,
        joules=build.joules,
        precision=build.precision,
        duplicates=data.duplicates,
        majority=verdict.majority(measured.logits.argmax(axis=1), data.test.labels, data.class_names),
        delegation=delegation,
        notes=build.notes,
    )


def _comparison(
    cell: Cell,
    data: ImageData,
    measured: Result,
    measurement: Measurement,
    *,
    timing: Timing,
    baseline: Finished,
) -> BaselineComparison:
    other = baseline.result.measurement
    baseline_train_s = baseline.result.timing.train_total_s
    compared_train_s = baseline_train_s if _same_machines(timing, baseline.result.timing) else None
    assert measured.reference_p50_ms is not None  # a baseline was given, so it was timed
    assert measured.ratio is not None and measured.ratio_low is not None and measured.ratio_high is not None
    if not baseline.files.predictions.is_file():
        raise RuntimeError(
            f"the baseline's answers to the test images are lost, as {baseline.files.predictions.name} is no artifact "
            "of its run any more: run the baseline again with the same settings, technique=baseline and resume=false"
        )
    with np.load(baseline.files.predictions, allow_pickle=False) as arrays:
        baseline_right = arrays["logits"].argmax(axis=1) == data.test.labels
    p_value = statistics.mcnemar(measured.logits.argmax(axis=1) == data.test.labels, baseline_right)
    train, test = _training_ratio(timing, compared_train_s), (measured.ratio_low, measured.ratio_high)
    times = verdict.both_times(
        test, train and train[1:], test_weight=cell.score.test_time, train_weight=cell.score.train_time
    )
    ratio, low, high = train or (None, None, None)
    return BaselineComparison(
        baseline_accuracy=other.accuracy,
        baseline_p50_ms=measured.reference_p50_ms,
        baseline_file_bytes=other.file_bytes,
        baseline_compressed_bytes=other.compressed_bytes,
        baseline_train_s=baseline_train_s,
        latency_ratio=measured.ratio,
        ratio_low=measured.ratio_low,
        ratio_high=measured.ratio_high,
        accuracy_p_value=p_value,
        accuracy=verdict.accuracy_verdict(measurement.accuracy - other.accuracy, p_value),
        time=verdict.time_verdict(*times),
        size=verdict.size_verdict(measurement.compressed_bytes / other.compressed_bytes),
        gain=cell.score.gain(
            measurement,
            other,
            baseline_p50_ms=measured.reference_p50_ms,
            train_total_s=timing.train_total_s,
            baseline_train_s=compared_train_s,
        ),
        train_ratio=ratio,
        train_ratio_low=low,
        train_ratio_high=high,
        test_time=verdict.time_verdict(*test),
        train_time=verdict.time_verdict(*train[1:]) if train else None,
    )


def _same_machines(one: Timing, other: Timing) -> bool:
    """Whether two training times are of the same machines, as far as is known."""
    return one.trained_on == other.trained_on or not (one.trained_on and other.trained_on)


def _training_ratio(timing: Timing, baseline_s: float | None) -> tuple[float, float, float] | None:
    if timing.train_total_s is None or baseline_s is None:
        return None
    # An older record does not tell; a chain's then counts as a training of its own.
    shared_s = timing.train_total_s - timing.train_s if timing.shared_s is None else timing.shared_s
    return verdict.training_ratio(shared_s, timing.train_total_s, baseline_s)
