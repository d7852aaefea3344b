"""The descriptions of a registered model and of its versions in MLflow's UI, markdown. This module reads no store."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.champion.gates import Gate
from pipelines.champion.model_card import code
from pipelines.results.cell_result import BaselineComparison, CellResult
from pipelines.results.columns import SCORE, kilobytes, milliseconds, percent
from pipelines.results.metrics import TEST_MS
from pipelines.results.recorded_cell import BASELINE, RecordedCell
from pipelines.results.statistics import wilson
from pipelines.results.tables import plain
from pipelines.system.words import number_of, some

OPENING = "Classifies images into the "
MAX_CLASSES = 20


def of_model(name: str, dataset: str, image_shape: Sequence[int], labels: Sequence[str]) -> str:
    """What the registered model answers, its input and output, and how to load it."""
    shape = ", ".join(map(str, image_shape or ("height", "width", 3)))
    return "\n".join(
        [
            f"{OPENING}{len(labels)} classes of the dataset {plain(dataset)}: "
            f"{some([*map(code, labels)], MAX_CLASSES)}.",
            "",
            f"- Input: RGB pixels 0 to 255, uint8, not scaled, of shape (n, {shape}).",
            f"- Output: `class` (n), the name of the most probable class, and `probabilities` (n, {len(labels)}), "
            "float32, in the order of the classes. The probabilities are not calibrated.",
            f'- Load: `mlflow.pyfunc.load_model("models:/{name}@champion").predict(images)`.',
            "",
            "The version with the alias `champion` is in production. The alias `previous` is the one before.",
        ]
    )


def is_own(text: str) -> bool:
    """Whether a registered model's description is opscore's, and not a person's."""
    return text.startswith(OPENING)


def of_version(
    result: CellResult, gates: Sequence[Gate], *, candidates: int, replaced: str, cell: RecordedCell, note: str = ""
) -> str:
    """The figures of a promoted cell, what it was compared with, and why it passed.

    candidates: the number of cells that were compared, itself included. replaced: the former champion, in words. cell:
    as it was compared, with a device's times where it was promoted for one. note: what to know of its score.
    """
    m = result.measurement
    low, high = wilson(m.correct, m.test_images)
    others = candidates - 1
    compared = f"{number_of(others, 'other candidate')} on the same test images" if others else "no other"
    lines = [
        f"**{plain(result.name)}**, seed {result.seed}: accuracy **{percent(m.accuracy)}** (95% interval "
        f"{percent(low)} to {percent(high)}, {m.correct:,} of {m.test_images:,} test images), "
        f"**{milliseconds(cell.metrics[TEST_MS])}** an image, **{kilobytes(m.file_bytes)}** "
        f"({kilobytes(m.compressed_bytes)} compressed), score "
        f"{SCORE.text(cell.metrics[SCORE.metric])} dB.",
        *([note] if note else []),
        *([_baseline(result.comparison)] if result.comparison else []),
        _time(cell, m.p50_ms),
        f"It was compared with {compared}. It replaced {replaced}. It passed these gates:",
    ]
    return "\n".join(["\n\n".join(lines), "", *(f"- {gate.name}: {plain(gate.reason)}" for gate in gates)])


def _time(cell: RecordedCell, own_ms: float) -> str:
    """Which time decided. own_ms: that of its own run."""
    how = f"In its own run, it took {milliseconds(own_ms)}."
    if cell.device is not None:
        threads = number_of(cell.device.threads, "thread")
        device = f"{plain(cell.device.target)}: time and score are those there, by {cell.device.runtime} with {threads}"
        return f"It was promoted for {device}. {how}"
    # One whose baseline was measured elsewhere keeps its own.
    is_own = cell.technique == BASELINE or cell.metrics[TEST_MS] == own_ms
    return how if is_own else f"The time is its baseline's multiplied by their ratio. {how}"


def _baseline(comparison: BaselineComparison) -> str:
    low, high = comparison.ratio_low, comparison.ratio_high
    return (
        f"Its baseline has {percent(comparison.baseline_accuracy)}, {milliseconds(comparison.baseline_p50_ms)} and "
        f"{kilobytes(comparison.baseline_compressed_bytes)} compressed. Timed in turns, it takes "
        f"{comparison.latency_ratio:.3f} of its baseline's time (95%: {low:.3f} to {high:.3f})."
    )
