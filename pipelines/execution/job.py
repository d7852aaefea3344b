"""The story of one cell: build, optimize, export, check, measure, score. Knows neither Hydra nor MLflow."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipelines.cells.cell import describe
from pipelines.execution.export import export
from pipelines.litert.kernels import sparsity
from pipelines.litert.session import Result, measure
from pipelines.models import complexity
from pipelines.results import statistics, verdict
from pipelines.results.folder import Build, CellFiles, Finished, Trained
from pipelines.results.records import CellResult, Comparison, Complexity, Measurement, Timing
from pipelines.system import runtime
from pipelines.system.stopwatch import part
from pipelines.techniques.base import Candidate, Context, Conversion
from pipelines.training.trainer import OnEpoch, Trainer

if TYPE_CHECKING:
    import tf_keras

    from pipelines.cells.cell import Cell
    from pipelines.datasets.base import ImageData

Report = Callable[[str], None]
T = TypeVar("T")


def run(
    cell: Cell,
    data: ImageData,
    folder: Path,
    *,
    fingerprint: str,
    needed: Mapping[str, Finished],
    trained: Finished | None = None,
    unfinished: CellFiles | None = None,
    on_epoch: OnEpoch,
    report: Report,
) -> Finished:
    """Run the cell and leave everything in `folder`, which must exist.

    needed: the finished cells of `cell.needs`, and the `source` that is named by its run. trained: a finished cell of
    the same fingerprint, whose exported model is measured again instead of being made again; of `needed`, only the
    baseline is then looked at. unfinished: what an earlier attempt at the same fingerprint left, from which this one
    goes on. on_epoch: called after each epoch.
    Raises EffectError where the technique did nothing, FloatingPointError where training diverged, RuntimeError
    where measuring failed.
    """
    files = CellFiles(folder)
    files.config.write_text(json.dumps(describe(cell), indent=2) + "\n")
    runtime.prepare(onednn=cell.model.onednn, deterministic=cell.deterministic)
    if trained is not None:
        report(f"{cell.name}: trained already, so it is only measured")
        made = _reuse_build(trained, files)
    elif unfinished is not None and unfinished.build.exists():
        report(f"{cell.name}: trained and exported before, in {unfinished.folder}, so it goes on with measuring")
        made = _resume_build(unfinished, files)
    else:
        made = _make(
            cell, data, files, fingerprint, needed=needed, unfinished=unfinished, on_epoch=on_epoch, report=report
        )
    baseline = needed.get("baseline")
    # Two cells that are timed at once on one machine slow each other down.
    with (
        part("measure"),
        runtime.machine_lock(
            "measuring", on_wait=lambda: report(f"{cell.name}: waiting, another cell is being measured")
        ),
    ):
        report(
            f"{cell.name}: measuring {files.exported_model.stat().st_size / 1e6:.2f} MB "
            f"on {len(data.test):,} test images"
        )
        measured = measure(
            files.exported_model,
            reference=baseline.files.exported_model if baseline else None,
            images=data.test.images,
            labels=data.test.labels,
            settings=cell.measurement,
            seed=cell.seed,
            folder=folder,
        )
    result = _result(cell, data, fingerprint=fingerprint, made=made, measured=measured, baseline=baseline)
    result.save(files.result)
    # The result holds all that they do.
    for path in (files.trained, files.build):
        path.unlink(missing_ok=True)
    return Finished(result=result, files=files)


def rename(cell: Cell, finished: Finished, folder: Path, *, report: Report) -> Finished:
    """The finished cell of the same identity under the names of `cell`, left in `folder`; nothing is computed."""
    report(f"{cell.name}: finished before as {finished.result.name}, so it is only recorded under its new name")
    shutil.copytree(finished.files.folder, folder, dirs_exist_ok=True)
    files = CellFiles(folder)
    files.config.write_text(json.dumps(describe(cell), indent=2) + "\n")
    result = replace(finished.result, model=cell.model.name, dataset=cell.dataset.name)
    result.save(files.result)
    return Finished(result=result, files=files)


def _make(
    cell: Cell,
    data: ImageData,
    files: CellFiles,
    fingerprint: str,
    *,
    needed: Mapping[str, Finished],
    unfinished: CellFiles | None,
    on_epoch: OnEpoch,
    report: Report,
) -> Build:
    """Train and export, each kept as soon as it is done: what fails afterwards costs neither."""
    if unfinished is not None:
        report(f"{cell.name}: trained before, in {unfinished.folder}, so it goes on with exporting")
        candidate, trained = _resume_training(unfinished, files)
    else:
        candidate, trained = _train(cell, data, files, fingerprint, needed=needed, on_epoch=on_epoch, report=report)

    report(f"{cell.name}: exporting")
    with part("convert"):
        _, convert_s = _timed(
            lambda: export(
                candidate, training_images=data.train.images, labels=data.class_names, path=files.exported_model
            )
        )
        cell.technique.verify(candidate, files.exported_model)
    before = [needed[role].result.timing.train_total_s for role in ("parent", "source") if role in needed]
    build = Build(
        fingerprint=fingerprint,
        timing=Timing(
            train_s=trained.train_s,
            train_total_s=trained.train_s + sum(before),
            optimize_s=trained.optimize_s,
            convert_s=convert_s,
        ),
        complexity=Complexity(
            parameters=complexity.parameters(candidate.model),
            macs=complexity.macs(candidate.model),
            sparsity=sparsity(files.exported_model),
        ),
        epochs=trained.epochs,
        metrics=trained.metrics,
        joules=trained.joules,
    )
    build.save(files.build)
    return build


def _train(
    cell: Cell,
    data: ImageData,
    files: CellFiles,
    fingerprint: str,
    *,
    needed: Mapping[str, Finished],
    on_epoch: OnEpoch,
    report: Report,
) -> tuple[Candidate, Trained]:
    runtime.seed_everything(cell.seed, deterministic=cell.deterministic)
    settings = replace(cell.training, learning_rate=cell.learning_rate)
    trainer = Trainer(settings=settings, data=data, dataset=cell.dataset, seed=cell.seed, on_epoch=on_epoch)
    parent, source, baseline = (needed.get(role) for role in ("parent", "source", "baseline"))
    context = Context(trainer=trainer, source=source, baseline=baseline, report=report)
    candidate, optimize_s = _timed(lambda: _optimize(cell, data, parent, context))
    for name, table in candidate.tables.items():
        files.tables.mkdir(exist_ok=True)
        (files.tables / f"{name}.json").write_text(json.dumps(table, indent=2) + "\n")
    trained = Trained(
        fingerprint=fingerprint,
        train_s=trainer.seconds,
        optimize_s=optimize_s,
        epochs=tuple(trainer.epochs),
        metrics=dict(candidate.metrics),
        joules=trainer.joules,
        conversion=asdict(candidate.conversion),
    )
    # What neither trains nor quantizes has changed the weights in another way.
    if trainer.epochs or candidate.conversion.quantization == "float32":
        with part("record"):
            save_checkpoint(candidate.model, files.checkpoint)
            # The checkpoint lacks the learnt ranges of emulated quantization: that network must be trained again.
            if candidate.fake_quantized is None:
                trained.save(files.trained)
    return candidate, trained


def _resume_training(unfinished: CellFiles, files: CellFiles) -> tuple[Candidate, Trained]:
    """What was to be exported when an earlier attempt failed, taken over from its folder."""
    import tf_keras

    trained = Trained.load(unfinished.trained)
    _copy((unfinished.checkpoint, unfinished.tables, unfinished.trained), files.folder)
    model = tf_keras.models.load_model(files.checkpoint, compile=False)
    return Candidate(model=model, conversion=Conversion(**trained.conversion), metrics=trained.metrics), trained


def _resume_build(unfinished: CellFiles, files: CellFiles) -> Build:
    _copy((unfinished.exported_model, unfinished.checkpoint, unfinished.tables, unfinished.build), files.folder)
    return Build.load(files.build)


def _reuse_build(trained: Finished, files: CellFiles) -> Build:
    _copy((trained.files.exported_model, trained.files.checkpoint, trained.files.tables), files.folder)
    result = trained.result
    return Build(
        fingerprint=result.fingerprint,
        timing=result.timing,
        complexity=result.complexity,
        epochs=result.epochs,
        metrics=result.metrics,
        joules=result.joules,
    )


def _copy(paths: Sequence[Path], folder: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        elif path.exists():
            shutil.copy2(path, folder)


def save_checkpoint(model: tf_keras.Model, path: Path) -> None:
    """Save architecture and weights. The state of the trainer's `legacy` optimizers is no part of a `.keras` file."""
    model.save(path)


def _optimize(cell: Cell, data: ImageData, parent: Finished | None, context: Context) -> Candidate:
    import tf_keras

    with part("build"):
        if parent is not None:
            model = tf_keras.models.load_model(parent.files.checkpoint, compile=False)
        else:
            tf_keras.mixed_precision.set_global_policy(cell.training.precision_policy())
            try:
                model = cell.model.build(data.image_shape, len(data.class_names))
            finally:
                tf_keras.mixed_precision.set_global_policy("float32")
    with part("optimize"):
        candidate = cell.technique.apply(Candidate(model=model), context)
        return replace(candidate, model=_as_float32(candidate.model))


def _as_float32(model: tf_keras.Model) -> tf_keras.Model:
    """The model with every layer computing in float32: half precision serves training only."""
    import tf_keras

    if all(layer.compute_dtype == "float32" for layer in model.layers):
        return model

    def in_float32(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        return layer.__class__.from_config({**layer.get_config(), "dtype": "float32"})

    clone = tf_keras.models.clone_model(model, clone_function=in_float32)
    clone.set_weights(model.get_weights())
    return clone


def _result(
    cell: Cell, data: ImageData, *, fingerprint: str, made: Build, measured: Result, baseline: Finished | None
) -> CellResult:
    measurement, timing = _measurement(measured, len(data.test)), made.timing
    return CellResult(
        model=cell.model.name,
        dataset=cell.dataset.name,
        technique=cell.technique.name,
        seed=cell.seed,
        fingerprint=fingerprint,
        hardware=runtime.hardware(),
        measurement=measurement,
        timing=timing,
        complexity=made.complexity,
        score=cell.score.terms(measurement, train_total_s=timing.train_total_s, classes=len(data.class_names)),
        violations=cell.score.violations(measurement, train_total_s=timing.train_total_s),
        comparison=(
            _comparison(cell, data, measured=measured, measurement=measurement, timing=timing, baseline=baseline)
            if baseline
            else None
        ),
        epochs=made.epochs,
        metrics=made.metrics,
        joules=made.joules,
        majority=verdict.majority(measured.logits.argmax(axis=1), data.test.labels, data.class_names),
    )


def _measurement(measured: Result, test_images: int) -> Measurement:
    return Measurement(
        accuracy=measured.accuracy,
        top5_accuracy=measured.top5_accuracy,
        correct=measured.correct,
        test_images=test_images,
        p50_ms=measured.p50_ms,
        p90_ms=measured.p90_ms,
        p99_ms=measured.p99_ms,
        images_per_s=measured.images_per_s,
        load_ms=measured.load_ms,
        first_call_ms=measured.first_call_ms,
        file_bytes=measured.file_bytes,
        compressed_bytes=measured.compressed_bytes,
    )


def _comparison(
    cell: Cell,
    data: ImageData,
    *,
    measured: Result,
    measurement: Measurement,
    timing: Timing,
    baseline: Finished,
) -> Comparison:
    other = baseline.result
    assert measured.reference_p50_ms is not None  # a baseline was given, so it was timed
    assert measured.ratio is not None and measured.ratio_low is not None and measured.ratio_high is not None
    with np.load(baseline.files.predictions, allow_pickle=False) as arrays:
        baseline_right = arrays["logits"].argmax(axis=1) == data.test.labels
    p_value = statistics.mcnemar(measured.logits.argmax(axis=1) == data.test.labels, baseline_right)
    return Comparison(
        baseline_accuracy=other.measurement.accuracy,
        baseline_p50_ms=measured.reference_p50_ms,
        baseline_file_bytes=other.measurement.file_bytes,
        baseline_compressed_bytes=other.measurement.compressed_bytes,
        baseline_train_s=other.timing.train_total_s,
        latency_ratio=measured.ratio,
        ratio_low=measured.ratio_low,
        ratio_high=measured.ratio_high,
        accuracy_p_value=p_value,
        accuracy=verdict.accuracy_verdict(measurement.accuracy - other.measurement.accuracy, p_value),
        time=verdict.time_verdict(measured.ratio_low, measured.ratio_high),
        size=verdict.size_verdict(measurement.compressed_bytes / other.measurement.compressed_bytes),
        gain=cell.score.gain(
            measurement,
            other.measurement,
            baseline_p50_ms=measured.reference_p50_ms,
            train_total_s=timing.train_total_s,
            baseline_train_s=other.timing.train_total_s,
            classes=len(data.class_names),
        ),
    )


def _timed(action: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    value = action()
    return value, time.perf_counter() - started
