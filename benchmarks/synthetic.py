"""Finished cells that nobody trained, and a tracking store full of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from pipelines.results.cell_result import BaselineComparison, CellResult, Complexity, Measurement, Timing
from pipelines.results.metrics import flatten, metrics_of
from pipelines.results.score import OperationalScore
from pipelines.results.verdict import accuracy_verdict, both_times, size_verdict, time_verdict, training_ratio
from pipelines.system.runtime import hardware_name

CONF = Path(__file__).resolve().parents[1] / "conf"
DATASETS = {"cifar10": 10, "cifar100": 100}
TEST_IMAGES = 10_000
# Baseline's accuracy, megabytes, milliseconds, seconds of training and multiply-accumulates: their order of size.
MODELS = {
    "small_cnn": (0.72, 0.4, 0.15, 60.0, 6e6),
    "mobilenet_v2": (0.86, 9.0, 0.9, 500.0, 9e6),
    "efficientnet_lite0": (0.89, 14.0, 1.4, 700.0, 6e7),
    "efficientnet_b0": (0.90, 16.0, 1.9, 900.0, 6e7),
    "resnet50": (0.91, 94.0, 4.2, 2400.0, 8e7),
    "resnet101": (0.92, 170.0, 8.0, 4200.0, 2e8),
    "vgg16": (0.88, 59.0, 8.3, 1900.0, 3e8),
    "vgg19": (0.88, 80.0, 10.1, 2300.0, 4e8),
}
# What a technique multiplies mistakes, bytes, latency and seconds of training by.
TECHNIQUES = {
    "baseline": (1.0, 1.0, 1.0, 1.0),
    "quantize_dynamic": (1.01, 0.26, 0.95, 1.0),
    "quantize_float16": (1.0, 0.5, 1.0, 1.0),
    "quantize_int8": (1.03, 0.27, 0.6, 1.0),
    "quantize_int16x8": (1.01, 0.28, 3.0, 1.0),
    "cluster": (1.1, 0.3, 1.0, 1.3),
    "prune": (1.08, 0.35, 1.0, 1.5),
    "prune_quantize_int8": (1.1, 0.15, 0.6, 1.5),
    "prune_filters": (1.15, 0.5, 0.55, 1.6),
    "qat": (1.02, 0.27, 0.6, 1.6),
    "distill": (0.97, 1.0, 1.0, 2.2),
    "transfer": (0.9, 1.0, 1.0, 0.3),
}
# What MLflow samples of the machine while a cell runs.
SYSTEM = (
    *("cpu_utilization_percentage", "disk_available_megabytes", "disk_usage_megabytes", "disk_usage_percentage"),
    *("network_receive_megabytes", "network_transmit_megabytes", "system_memory_usage_megabytes"),
    "system_memory_usage_percentage",
)
HARDWARE = {"processor": "made up", "cores": 2, "memory_gib": 24.0, "gpus": []}
NAMES = list(product(MODELS, DATASETS, TECHNIQUES))
BEGUN_MS = 1_767_225_600_000  # 2026-01-01


@dataclass(frozen=True, kw_only=True)
class MadeUp:
    """A cell as its run would hold it. baseline: the fingerprint of its baseline, empty where it is one."""

    run_id: str
    baseline: str
    started: int
    result: CellResult
    params: dict[str, str]

    @property
    def metrics(self) -> dict[str, float]:
        """By MLflow's names: 40, of a baseline 30."""
        return metrics_of(self.result) | {f"system/{name}": 1.0 for name in SYSTEM}

    @property
    def tags(self) -> dict[str, str]:
        """Those that a cell sets and those that MLflow does."""
        result = self.result
        return {
            "mlflow.user": "nobody",
            "mlflow.source.name": "pipelines/run.py",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": "0" * 40,
            "mlflow.source.git.branch": "main",
            "mlflow.runName": result.name,
            "mlflow.note.content": f"**{result.name}**: score **{result.score.total:.1f} dB**. " + "Words. " * 40,
            "opscore.process": "nowhere:1:1",
            "opscore.heartbeat": str(self.started // 1000),
            "model": result.model,
            "dataset": result.dataset,
            "technique": result.technique,
            "seed": str(result.seed),
            "opscore.fingerprint": result.fingerprint,
            **({"opscore.baseline": self.baseline} if self.baseline else {}),
            "feasible": str(result.feasible),
            "hardware": hardware_name(result.hardware),
            "precision": "float32",
        }


def cells(number: int) -> Iterator[MadeUp]:
    """So many cells, each time the same; every name comes up again with another learning rate."""
    rng = np.random.default_rng(0)
    score = OperationalScore(accuracy=2, size=0.5, test_time=0.25, train_time=0.25)
    params = {name: _params(*name) for name in NAMES}
    for at in range(number):
        name = model, dataset, technique = NAMES[at % len(NAMES)]
        baseline = at - at % len(NAMES) + NAMES.index((model, dataset, "baseline"))
        result = _result(f"{at:064x}", name, score, rng)
        yield MadeUp(
            run_id=f"{at:032x}",
            baseline="" if technique == "baseline" else f"{baseline:064x}",
            started=BEGUN_MS + 60_000 * at,
            result=result,
            params=params[name] | {"training.learning_rate": f"{0.0001 * (1 + at // len(NAMES)):g}"},
        )


def fill(database: str, experiment_id: str, artifacts: str, number: int) -> None:
    """Put so many cells into an experiment of the store on `database`, past MLflow, which would take an hour.

    artifacts: the URI below which the experiment's runs have theirs.
    """
    import sqlalchemy
    from mlflow.store.tracking.dbmodels import models

    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        for dataset, context in product(DATASETS, ("training", "testing")):
            connection.execute(sqlalchemy.insert(models.SqlDataset), [_dataset(dataset, context, experiment_id)])
    endless = cells(number)
    while chunk := list(islice(endless, 500)):
        with engine.begin() as connection:
            for table, rows in _rows(chunk, experiment_id, artifacts).items():
                connection.execute(sqlalchemy.insert(getattr(models, table)), rows)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # As autovacuum would after a while.
        connection.execute(sqlalchemy.text("ANALYZE"))
    engine.dispose()


def _result(
    fingerprint: str, name: tuple[str, str, str], score: OperationalScore, rng: np.random.Generator
) -> CellResult:
    model, dataset, technique = name
    right, megabytes, ms, seconds, macs = MODELS[model]
    classes = DATASETS[dataset]
    wrong = (1 - right) * (1 if classes == 10 else 2.5)
    more_wrong, *factors = TECHNIQUES[technique]
    scattered = rng.lognormal(0, (0.12, 0.15, 0.05, 0.3))
    less, faster, sooner = (factor * by for factor, by in zip(factors, scattered[1:], strict=True))
    own = _measured(1 - min(0.95, wrong * more_wrong * scattered[0]), megabytes * less, ms * faster, classes)
    base = _measured(1 - wrong, megabytes, ms, classes)
    train_s = seconds * sooner
    p_value = min(1.0, 2 * math.exp(-(((own.correct - base.correct) / 60) ** 2)))
    low, high = faster * 0.98, faster * 1.02
    ratio, ratio_low, ratio_high = training_ratio(train_s, train_s, seconds)
    times = both_times((low, high), (ratio_low, ratio_high), test_weight=0.25, train_weight=0.25)
    comparison = BaselineComparison(
        baseline_accuracy=base.accuracy,
        baseline_p50_ms=ms,
        baseline_file_bytes=base.file_bytes,
        baseline_compressed_bytes=base.compressed_bytes,
        baseline_train_s=seconds,
        latency_ratio=faster,
        ratio_low=low,
        ratio_high=high,
        accuracy_p_value=p_value,
        accuracy=accuracy_verdict(own.accuracy - base.accuracy, p_value),
        time=time_verdict(*times),
        size=size_verdict(less),
        gain=score.gain(
            own,
            base,
            baseline_p50_ms=ms,
            train_total_s=train_s,
            baseline_train_s=seconds,
        ),
        train_ratio=ratio,
        train_ratio_low=ratio_low,
        train_ratio_high=ratio_high,
        test_time=time_verdict(low, high),
        train_time=time_verdict(ratio_low, ratio_high),
    )
    return CellResult(
        model=model,
        dataset=dataset,
        technique=technique,
        seed=0,
        fingerprint=fingerprint,
        hardware=HARDWARE,
        measurement=own,
        timing=Timing(train_s=train_s, train_total_s=train_s, optimize_s=train_s, convert_s=5.0),
        complexity=Complexity(parameters=int(megabytes * 250_000), macs=int(macs), sparsity=0.0),
        score=score.terms(own, train_total_s=train_s),
        violations=(),
        comparison=None if technique == "baseline" else comparison,
        epochs=(),
        metrics={},
    )


def _measured(accuracy: float, megabytes: float, ms: float, classes: int) -> Measurement:
    correct = round(accuracy * TEST_IMAGES)
    return Measurement(
        accuracy=correct / TEST_IMAGES,
        top5_accuracy=min(1.0, accuracy + 0.05),
        correct=correct,
        test_images=TEST_IMAGES,
        chance=1 / classes,
        balanced_accuracy=correct / TEST_IMAGES,
        p50_ms=ms,
        p90_ms=1.1 * ms,
        p99_ms=1.3 * ms,
        images_per_s=1500 / ms,
        load_ms=2.0,
        first_call_ms=2 * ms,
        file_bytes=int(megabytes * 1.1e6),
        compressed_bytes=int(megabytes * 1e6),
    )


def _params(model: str, dataset: str, technique: str) -> dict[str, str]:
    """The configuration as it stands in the files of `conf`, by dotted name."""
    chosen = {"model": model, "dataset": dataset, "technique": technique, "score": "netscore"}
    params = {"seed": "0", "deterministic": "False"}
    for group, option in (chosen | {"training": "default", "measurement": "default"}).items():
        part: Any = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{option}.yaml"))
        params |= {f"{group}.{name}": str(value) for name, value in flatten(part) if name != "defaults"}
    return params


def _dataset(name: str, context: str, experiment_id: str) -> dict[str, Any]:
    images = TEST_IMAGES if context == "testing" else 5 * TEST_IMAGES
    return {
        "dataset_uuid": f"{name}-{context}",
        "experiment_id": int(experiment_id),
        "name": name,
        "digest": f"{name}-{context}",
        "dataset_source_type": "code",
        "dataset_source": "{}",
        "dataset_schema": "{}",
        "dataset_profile": f'{{"features_shape": [{images}, 32, 32, 3]}}',
    }


def _rows(chunk: Sequence[MadeUp], experiment_id: str, artifacts: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of MLflow's tables, by the class that MLflow has for each, in an order that no foreign key refutes."""
    inputs = [
        (cell, f"{cell.run_id[4:]}{context[:4]}", context) for cell in chunk for context in ("training", "testing")
    ]
    own = [{"run_uuid": cell.run_id} for cell in chunk]
    return {
        "SqlRun": [
            {
                **{"run_uuid": cell.run_id, "name": cell.result.name, "source_type": "UNKNOWN", "user_id": "nobody"},
                **{
                    "start_time": cell.started,
                    "end_time": cell.started + 60_000,
                    "lifecycle_stage": "active",
                    "status": "FINISHED",
                },
                **{"artifact_uri": f"{artifacts}/{cell.run_id}/artifacts", "experiment_id": int(experiment_id)},
            }
            for cell in chunk
        ],
        "SqlTag": [
            {"key": key, "value": value} | run
            for cell, run in zip(chunk, own, strict=True)
            for key, value in cell.tags.items()
        ],
        "SqlParam": [
            {"key": key, "value": value} | run
            for cell, run in zip(chunk, own, strict=True)
            for key, value in cell.params.items()
        ],
        "SqlLatestMetric": [
            {"key": key, "value": value, "timestamp": cell.started, "step": 0, "is_nan": False} | run
            for cell, run in zip(chunk, own, strict=True)
            for key, value in cell.metrics.items()
        ],
        "SqlInput": [
            {
                **{"input_uuid": uuid, "source_type": "DATASET", "source_id": f"{cell.result.dataset}-{context}"},
                **{"destination_type": "RUN", "destination_id": cell.run_id, "step": 0},
            }
            for cell, uuid, context in inputs
        ],
        "SqlInputTag": [
            {"input_uuid": uuid, "name": "mlflow.data.context", "value": context} for _, uuid, context in inputs
        ],
    }
