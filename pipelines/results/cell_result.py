"""What was measured of a cell, as plain frozen records."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.results.json_record import Record

Verdict = Literal["better", "tied", "worse"]
# The article's three dimensions, of which time is testing and training together.
DIMENSIONS = ("accuracy", "time", "size")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """An exported model over the test split, measured by LiteRT.

    accuracy, top5_accuracy: fractions in [0, 1]. chance: the accuracy to be expected of random answers as frequent as
    the model's own (`agreement.chance`). balanced_accuracy: the mean recall over the classes. p50_ms, p90_ms, p99_ms:
    latency of one image, of which p99 needs 662 calls. images_per_s: throughput of the accuracy pass on all cores.
    load_ms, first_call_ms: one reading each. compressed_bytes: the file after DEFLATE at level 6.
    """

    accuracy: float
    top5_accuracy: float
    correct: int
    test_images: int
    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    images_per_s: float
    load_ms: float
    first_call_ms: float
    file_bytes: int
    compressed_bytes: int
    chance: float
    balanced_accuracy: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds that a cell took.

    train_s: its own training; train_total_s adds that of its parent cell, teacher or donor and that before any cell,
    None where a part is unknown. optimize_s: the whole technique, its training included; convert_s: the export.
    trained_on: the machines of all that training, joined by `; `; empty in records that are older than it. shared_s:
    the part of the total that is the training of the baseline, which the cell continues; 0 where it continues none,
    None where that is unknown or the record is older.
    """

    train_s: float
    train_total_s: float | None
    optimize_s: float
    convert_s: float
    trained_on: str = ""
    shared_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """Parameters and multiply-accumulates of one image of the network, and the fraction of exactly-zero entries in
    the exported model's kernels."""

    parameters: int
    macs: int
    sparsity: float


@dataclass(frozen=True, kw_only=True)
class Terms:
    """A value in decibels for each criterion of the score; train_time is 0 where the training time is unknown."""

    accuracy: float
    size: float
    test_time: float
    train_time: float

    @property
    def total(self) -> float:
        """The sum of the four terms."""
        return self.accuracy + self.size + self.test_time + self.train_time

    def __sub__(self, other: "Terms") -> "Terms":
        return Terms(
            accuracy=self.accuracy - other.accuracy,
            size=self.size - other.size,
            test_time=self.test_time - other.test_time,
            train_time=self.train_time - other.train_time,
        )


@dataclass(frozen=True, kw_only=True)
class BaselineComparison:
    """A cell compared with its baseline, both timed in turns.

    latency_ratio: undisturbed time over the baseline's. ratio_low to ratio_high: 95% prediction interval of a repeated
    measurement, which contains the ratio of the p50. accuracy_p_value: two-sided exact McNemar test over the paired
    test images. train_ratio: training time over the baseline's, with its interval, None where one of the two is unknown
    or they are of different machines. gain: score minus the baseline's score in dB, by criterion. accuracy, size,
    test_time, train_time, time: better, tied or worse; `time` is testing and training together.
    """

    baseline_accuracy: float
    baseline_p50_ms: float
    baseline_file_bytes: int
    baseline_compressed_bytes: int
    baseline_train_s: float | None
    latency_ratio: float
    ratio_low: float
    ratio_high: float
    accuracy_p_value: float
    accuracy: Verdict
    test_time: Verdict
    train_time: Verdict | None
    time: Verdict
    size: Verdict
    gain: Terms
    train_ratio: float | None
    train_ratio_low: float | None
    train_ratio_high: float | None

    @property
    def dimensions_improved(self) -> int:
        """How many of accuracy, time and size are better than the baseline's, 0..3."""
        return [getattr(self, name) for name in DIMENSIONS].count("better")


@dataclass(frozen=True, kw_only=True)
class Majority:
    """The best classifier that looks at no image: it always answers the most frequent class of the test images.

    answer: that class. share: the fraction of test images of that class, in (0, 1]. p_value: one-sided exact McNemar
    test on the same images; small where the exported model is right more often than this answer. agreement_p_value:
    small where the model's answers agree with the labels more often than by chance (`agreement.p_value`).
    worse_p_value: as p_value, small where the model is right less often than this answer.
    """

    answer: str
    share: float
    p_value: float
    agreement_p_value: float | None = None
    worse_p_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Delegation(Record):
    """Which part of an exported model LiteRT runs in its accelerated delegate, XNNPACK, on the machine that measured.

    partitions: number of pieces that XNNPACK computes; the fewer, the less copying between them. undelegated: number of
    operators outside of them, by LiteRT's name, such as {"DEPTHWISE_CONV_2D": 14}; without those that only convert the
    numbers of the input or the output. int16: whether the activations outside are of 16 bits.
    """

    partitions: int
    undelegated: dict[str, int]
    int16: bool = False


@dataclass(frozen=True, kw_only=True)
class CellResult(Record):
    """All results of one cell.

    violations: the budgets of its score profile that it breaks. comparison: None for a baseline. epochs: metrics of
    each training epoch. metrics: the technique's own. joules: energy of the cell's own training by `cpu`, `dram` and
    `gpu`, as far as the machine has counters. precision: `Cell.precision`. notes: the technique's own sentences.
    duplicates: the sentence on test images that are among the others, empty where there are none. precision, majority,
    delegation: None where they are not known.
    """

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
    comparison: BaselineComparison | None
    epochs: tuple[dict[str, float], ...]
    metrics: dict[str, float]
    joules: dict[str, float] = field(default_factory=dict)
    precision: str | None = None
    majority: Majority | None = None
    delegation: Delegation | None = None
    notes: tuple[str, ...] = ()
    duplicates: str = ""

    @property
    def name(self) -> str:
        """The run's name in MLflow."""
        return f"{self.model}-{self.dataset}-{self.technique}"

    @property
    def compares_trainings(self) -> bool:
        """Whether its training time and its baseline's are known, and of the same machines as far as is known."""
        return self.comparison is not None and self.comparison.train_ratio is not None

    @property
    def feasible(self) -> bool:
        """Whether the cell keeps all budgets of its score profile."""
        return not self.violations
