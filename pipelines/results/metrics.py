"""Names of a cell's results in MLflow."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from pipelines.results.agreement import kappa
from pipelines.results.cell_result import BaselineComparison, CellResult, Majority
from pipelines.results.score import CRITERIA

ACCURACY = "test/accuracy"
# Cohen's kappa, and the agreement by chance in it.
KAPPA, CHANCE = "test/kappa", "test/chance"
BALANCED_ACCURACY = "test/balanced_accuracy"
MAJORITY_SHARE, MAJORITY_P_VALUE = "test/majority_share", "test/majority_p_value"
AGREEMENT_P_VALUE, WORSE_P_VALUE = "test/agreement_p_value", "test/majority_worse_p_value"
# The parameter with the SHA-256 of the file that a network's weights come from.
FILE_HASH = "model.file_sha256"
TEST_MS = "time/test_ms_p50"
OWN_TRAIN_S, TRAIN_S = "time/train_s", "time/train_total_s"
SHARED_TRAIN_S = "time/train_shared_s"
FILE_BYTES, COMPRESSED_BYTES = "size/file_bytes", "size/compressed_bytes"
# Criteria of the score: the first changes with the device, and an unknown training time leaves the second out.
TEST_TIME, TRAIN_TIME = "test_time", "train_time"
SCORES = "score/"
SCORE, GAIN = f"{SCORES}operational", f"{SCORES}gain_db"
TIME_RATIO = "baseline/time_ratio"
RATIO_LOW, RATIO_HIGH = "baseline/time_ratio_low", "baseline/time_ratio_high"
ACCURACY_DIFFERENCE, ACCURACY_P_VALUE = "baseline/accuracy_difference", "baseline/accuracy_p_value"
SIZE_RATIO = "baseline/size_ratio"
TRAIN_RATIO = "baseline/train_ratio"
TRAIN_RATIO_LOW, TRAIN_RATIO_HIGH = f"{TRAIN_RATIO}_low", f"{TRAIN_RATIO}_high"
IMPROVED = "baseline/dimensions_improved"
# How the names of figures begin that opscore itself records: a technique's own metrics have other names.
OWN_PREFIXES = tuple(
    f"{group}/"
    for group in ("test", "time", "size", "model", "score", "baseline", "train", "wall", "energy", "measure", "system")
)
# Names that MLflow takes.
_NAME = re.compile(r"[\w.\- :]+(/[\w.\- :]+)*")
MAX_NAME = 250


def why_unnamed(name: object) -> str | None:
    """Why a technique's metric cannot have this name, after `metrics['...'] of the technique must`; None if it can."""
    if not isinstance(name, str):
        return "have a text for its name"
    if name.startswith(OWN_PREFIXES):
        return "not have a name of opscore's own figures"
    if len(name) > MAX_NAME or not _NAME.fullmatch(name) or {".", ".."} & {*name.split("/")}:
        return f"have a name of at most {MAX_NAME} letters, digits, blanks and _ - . : /"
    return None


def term_of(criterion: str) -> str:
    """The score's term from one criterion, in dB."""
    return f"{SCORES}{criterion}_db"


def gain_of(criterion: str) -> str:
    """The gain's part from one criterion, in dB."""
    return f"{SCORES}gain_{criterion}_db"


def set_part(metrics: dict[str, float], total: str, part: str, value: float) -> None:
    """Put a part of a sum in the place of the former one."""
    if total in metrics:
        metrics[total] += value - metrics.get(part, 0.0)
    metrics[part] = value


def of_epoch(name: str) -> str:
    """A metric of each epoch of training."""
    return f"train/{name}"


# Names of `metrics_of` that not all cells have.
OF_SOME_CELLS = frozenset(
    (
        *("time/test_ms_p99", TRAIN_S, SHARED_TRAIN_S, MAJORITY_SHARE, MAJORITY_P_VALUE, AGREEMENT_P_VALUE),
        *(WORSE_P_VALUE, "model/delegate_partitions", "model/undelegated_operators", term_of(TRAIN_TIME)),
        *(ACCURACY_DIFFERENCE, SIZE_RATIO, TRAIN_RATIO, TRAIN_RATIO_LOW, TRAIN_RATIO_HIGH, GAIN),
        *(*map(gain_of, CRITERIA), TIME_RATIO, RATIO_LOW, RATIO_HIGH, ACCURACY_P_VALUE, IMPROVED),
        *(f"energy/train_{component}_j" for component in ("cpu", "dram", "gpu")),
    )
)


def majority_of(metrics: Mapping[str, float], answer: str = "") -> Majority | None:
    """The test against the majority from a run's metrics; None where it was not recorded. answer: empty if unknown."""
    if MAJORITY_P_VALUE not in metrics or MAJORITY_SHARE not in metrics:
        return None
    return Majority(
        answer=answer,
        share=metrics[MAJORITY_SHARE],
        p_value=metrics[MAJORITY_P_VALUE],
        agreement_p_value=metrics.get(AGREEMENT_P_VALUE),
        worse_p_value=metrics.get(WORSE_P_VALUE),
    )


def metrics_of(result: CellResult) -> dict[str, float]:
    """All numbers of a finished cell by MLflow name; a value that does not exist is absent, never zero."""
    measured, timing = result.measurement, result.timing
    metrics: dict[str, float] = {
        ACCURACY: measured.accuracy,
        "test/top5_accuracy": measured.top5_accuracy,
        CHANCE: measured.chance,
        BALANCED_ACCURACY: measured.balanced_accuracy,
        KAPPA: kappa(measured.accuracy, measured.chance),
        OWN_TRAIN_S: timing.train_s,
        "time/convert_s": timing.convert_s,
        TEST_MS: measured.p50_ms,
        "time/test_ms_p90": measured.p90_ms,
        "time/images_per_s": measured.images_per_s,
        "time/load_ms": measured.load_ms,
        "time/first_call_ms": measured.first_call_ms,
        FILE_BYTES: measured.file_bytes,
        COMPRESSED_BYTES: measured.compressed_bytes,
        "model/parameters": result.complexity.parameters,
        "model/macs": result.complexity.macs,
        "model/sparsity": result.complexity.sparsity,
        SCORE: result.score.total,
    }
    if measured.p99_ms is not None:
        metrics["time/test_ms_p99"] = measured.p99_ms
    if result.majority is not None:
        metrics[MAJORITY_SHARE] = result.majority.share
        metrics[MAJORITY_P_VALUE] = result.majority.p_value
        if result.majority.agreement_p_value is not None:
            metrics[AGREEMENT_P_VALUE] = result.majority.agreement_p_value
        if result.majority.worse_p_value is not None:
            metrics[WORSE_P_VALUE] = result.majority.worse_p_value
    if result.delegation is not None:
        metrics["model/delegate_partitions"] = result.delegation.partitions
        metrics["model/undelegated_operators"] = sum(result.delegation.undelegated.values())
    metrics |= {term_of(name): value for name, value in asdict(result.score).items()}
    if timing.train_total_s is None:
        del metrics[term_of(TRAIN_TIME)]
    else:
        metrics[TRAIN_S] = timing.train_total_s
        metrics |= {SHARED_TRAIN_S: timing.shared_s} if timing.shared_s else {}
    metrics |= result.metrics
    metrics |= {f"energy/train_{name}_j": value for name, value in result.joules.items() if math.isfinite(value)}
    if result.comparison is not None:
        metrics |= _compared(result, result.comparison)
        if not result.compares_trainings:
            del metrics[gain_of(TRAIN_TIME)]
    return metrics


def _compared(result: CellResult, comparison: BaselineComparison) -> dict[str, float]:
    measured = result.measurement
    train = {
        TRAIN_RATIO: comparison.train_ratio,
        TRAIN_RATIO_LOW: comparison.train_ratio_low,
        TRAIN_RATIO_HIGH: comparison.train_ratio_high,
    }
    return {
        ACCURACY_DIFFERENCE: measured.accuracy - comparison.baseline_accuracy,
        SIZE_RATIO: measured.compressed_bytes / comparison.baseline_compressed_bytes,
        **{name: value for name, value in train.items() if value is not None},
        GAIN: comparison.gain.total,
        **{gain_of(name): value for name, value in asdict(comparison.gain).items()},
        TIME_RATIO: comparison.latency_ratio,
        RATIO_LOW: comparison.ratio_low,
        RATIO_HIGH: comparison.ratio_high,
        ACCURACY_P_VALUE: comparison.accuracy_p_value,
        IMPROVED: comparison.dimensions_improved,
    }


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested dictionaries under dotted names."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
