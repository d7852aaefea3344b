"""What a cell leaves behind, as plain frozen records that survive a trip through JSON."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipelines.results.files import MODEL

Verdict = Literal["better", "tied", "worse"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What was measured on an exported model over the test split, by LiteRT.

    accuracy, top5_accuracy: fractions in [0, 1]. p50_ms, p90_ms, p99_ms: latency of one image. images_per_s:
    throughput of the accuracy pass on all cores. load_ms, first_call_ms: one reading each. compressed_bytes:
    the file after DEFLATE at level 9.
    """

    accuracy: float
    top5_accuracy: float
    correct: int
    test_images: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    images_per_s: float
    load_ms: float
    first_call_ms: float
    file_bytes: int
    compressed_bytes: int


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds. train_s: this cell's own training; train_total_s adds that of its parent cell, teacher or donor.

    optimize_s: the whole technique, its training included; convert_s: the export.
    """

    train_s: float
    train_total_s: float
    optimize_s: float
    convert_s: float


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """Parameters and multiply-accumulates of one image of the network, and the fraction of exactly-zero entries in
    the exported model's kernels."""

    parameters: int
    macs: int
    sparsity: float


@dataclass(frozen=True, kw_only=True)
class Terms:
    """A value in decibels for each criterion; `total` is their sum."""

    accuracy: float
    size: float
    test_time: float
    train_time: float

    @property
    def total(self) -> float:
        """The sum of the four terms."""
        return self.accuracy + self.size + self.test_time + self.train_time


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A cell beside its baseline, both timed call by call in one process.

    latency_ratio: p50 over the baseline's p50, with a 95% bootstrap interval [ratio_low, ratio_high].
    accuracy_p_value: two-sided exact McNemar test over the paired test images.
    gain: score minus the baseline's score in dB, by criterion.
    """

    baseline_accuracy: float
    baseline_p50_ms: float
    baseline_file_bytes: int
    baseline_compressed_bytes: int
    baseline_train_s: float
    latency_ratio: float
    ratio_low: float
    ratio_high: float
    accuracy_p_value: float
    accuracy: Verdict
    time: Verdict
    size: Verdict
    gain: Terms

    @property
    def dimensions_improved(self) -> int:
        """Of accuracy, time and size, how many are better than the baseline's, 0..3."""
        return [self.accuracy, self.time, self.size].count("better")


@dataclass(frozen=True, kw_only=True)
class Majority:
    """The best answer that needs no image: always the most frequent class of the test images.

    answer: that class. share: its part of the test images, in (0, 1]. p_value: one-sided exact McNemar test on the same
    images; small where the exported model is right more often than this answer.
    """

    answer: str
    share: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """Everything that one cell found out. `comparison` is None for a baseline; `violations` are the score
    profile's budgets that it breaks; `epochs` holds one dictionary of metrics a training epoch; `metrics` is what
    the technique alone has to tell; `majority` is None where the record is older than that test;
    `joules` is the energy of this cell's own training by `cpu`, `dram` and `gpu`, as far as the machine tells."""

    model: str
    dataset: str
    technique: str
    seed: int
    fingerprint: str
    hardware: dict[str, Any]
    measurement: Measurement
    timing: Timing
    complexity: Complexity
    score: Terms
    violations: tuple[str, ...]
    comparison: Comparison | None
    epochs: tuple[dict[str, float], ...]
    metrics: dict[str, float]
    joules: dict[str, float] = field(default_factory=dict)
    majority: Majority | None = None

    @property
    def name(self) -> str:
        """The run's name in MLflow."""
        return f"{self.model}-{self.dataset}-{self.technique}"

    @property
    def feasible(self) -> bool:
        """Whether the cell keeps all budgets of its score profile."""
        return not self.violations

    def save(self, path: Path) -> None:
        """Write the record as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> "CellResult":
        """Read what `save` wrote. Raises FileNotFoundError, or TypeError or KeyError for another format."""
        data = json.loads(path.read_text())
        comparison, majority = data.pop("comparison"), data.pop("majority", None)
        if comparison is not None:
            comparison = Comparison(**{**comparison, "gain": Terms(**comparison["gain"])})
        return cls(
            **{
                **data,
                "measurement": Measurement(**data["measurement"]),
                "timing": Timing(**data["timing"]),
                "complexity": Complexity(**data["complexity"]),
                "score": Terms(**data["score"]),
                "violations": tuple(data["violations"]),
                "comparison": comparison,
                "majority": Majority(**majority) if majority is not None else None,
                "epochs": tuple(data["epochs"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a cell knows once its network is trained: with the checkpoint, enough to export it in another process.

    fingerprint: of the cell. conversion: the fields of `techniques.base.Conversion`. metrics: the technique's own.
    """

    fingerprint: str
    train_s: float
    optimize_s: float
    epochs: tuple[dict[str, float], ...]
    metrics: dict[str, float]
    joules: dict[str, float]
    conversion: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write JSON, whole or not at all."""
        _write(path, self)

    @classmethod
    def load(cls, path: Path) -> "Trained":
        """Read JSON. Raises OSError, ValueError, KeyError or TypeError for anything else."""
        data = json.loads(path.read_text())
        return cls(**{**data, "epochs": tuple(data["epochs"])})


@dataclass(frozen=True, kw_only=True)
class Build:
    """What is known of a cell once its exported model lies in its folder, before anything is measured."""

    fingerprint: str
    timing: Timing
    complexity: Complexity
    epochs: tuple[dict[str, float], ...]
    metrics: dict[str, float]
    joules: dict[str, float]

    def save(self, path: Path) -> None:
        """Write JSON, whole or not at all."""
        _write(path, self)

    @classmethod
    def load(cls, path: Path) -> "Build":
        """Read JSON. Raises OSError, ValueError, KeyError or TypeError for anything else."""
        data = json.loads(path.read_text())
        timing, complexity = Timing(**data["timing"]), Complexity(**data["complexity"])
        return cls(**{**data, "epochs": tuple(data["epochs"]), "timing": timing, "complexity": complexity})


def _write(path: Path, record: Any) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(record), indent=2) + "\n")
    partial.replace(path)


@dataclass(frozen=True)
class CellFiles:
    """Where a cell's files lie in its folder."""

    folder: Path

    @property
    def result(self) -> Path:
        """The `CellResult`, JSON. It is written last: where it is, the cell is complete."""
        return self.folder / "result.json"

    @property
    def config(self) -> Path:
        """What the cell was asked for, JSON."""
        return self.folder / "config.json"

    @property
    def exported_model(self) -> Path:
        """The deployable file."""
        return self.folder / MODEL

    @property
    def checkpoint(self) -> Path:
        """The trained Keras model; absent where the technique trains nothing."""
        return self.folder / "checkpoint.keras"

    @property
    def trained(self) -> Path:
        """The `Trained`, JSON, while the cell is not finished. The checkpoint lies beside it."""
        return self.folder / "trained.json"

    @property
    def build(self) -> Path:
        """The `Build`, JSON, while the cell is not finished. The exported model lies beside it."""
        return self.folder / "build.json"

    @property
    def tables(self) -> Path:
        """A folder of the technique's tables, JSON, columns by name; absent where it has none."""
        return self.folder / "tables"

    @property
    def predictions(self) -> Path:
        """The exported model's answers over the test split, in its order: array `logits`, float32 (n, classes)."""
        return self.folder / "predictions.npz"

    @property
    def breakdown(self) -> Path:
        """Seconds of the cell's wall time by part (`pipelines/system/stopwatch.py`), JSON; written when it is over."""
        return self.folder / "breakdown.json"

    @property
    def breakdown_figure(self) -> Path:
        """The same as a picture."""
        return self.folder / "figures" / "breakdown.png"

    @property
    def latency(self) -> Path:
        """Nanoseconds of each timed call: arrays `candidate` and, beside a baseline, `reference`."""
        return self.folder / "latency.npz"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished cell: its record and its files."""

    result: CellResult
    files: CellFiles

    @classmethod
    def load(cls, folder: Path) -> "Finished":
        """Open a finished cell's folder. Raises FileNotFoundError where the cell is not complete."""
        files = CellFiles(folder)
        return cls(result=CellResult.load(files.result), files=files)


Status = Literal["done", "reused", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one cell of a sweep.

    number: its place in the grid, from 0. overrides: what the grid asked for. done: computed in this sweep; reused:
    found in the store; skipped: technique and model do not go together. run_id, metrics (by MLflow name): empty where
    it has no result. message: why it was skipped or failed. spent: seconds by part
    (`pipelines/system/stopwatch.py`) of its process, with the cells that it had run first; empty where nothing is known
    of them.
    """

    number: int
    name: str
    overrides: tuple[str, ...]
    status: Status
    seconds: float
    run_id: str = ""
    message: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)

    def text(self) -> str:
        """The record as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def parse(cls, text: str) -> "Outcome":
        """Read what `text` wrote. Raises ValueError or TypeError for another format."""
        data = json.loads(text)
        return cls(**{**data, "overrides": tuple(data["overrides"])})
