"""A finished cell in words: the table for the terminal and the note for MLflow."""

from __future__ import annotations

from collections.abc import Callable

from wcwidth import width

from pipelines.results.records import CellResult, Comparison
from pipelines.results.tables import aligned
from pipelines.results.verdict import no_better_than_majority

Row = tuple[str, str, str, str, str]


def table(result: CellResult) -> str:
    """The result table for a terminal; a cell with a baseline stands beside it."""
    rows = _rows(result)
    if result.comparison is None:
        shown: list[tuple[str, ...]] = [("", result.technique), *(row[:2] for row in rows)]
    else:
        shown = [("", result.technique, "baseline", "change", "score gain"), *rows]
    lines = aligned(shown).splitlines()
    rule = "-" * max(map(width, lines))
    title = f"{result.name}, seed {result.seed}"
    own = [f"{name} {value:,.4g}" for name, value in result.metrics.items()]
    return "\n".join([title, rule, lines[0], rule, *lines[1:], rule, *own, *_verdict_lines(result)])


def note(result: CellResult) -> str:
    """Three lines of markdown that say what came out."""
    measured = result.measurement
    lines = [
        f"**{result.name}**: score **{result.score.total:.1f} dB**"
        + (f", {result.comparison.gain.total:+.1f} dB against its baseline." if result.comparison else "."),
        f"Accuracy {measured.accuracy:.2%} on {measured.test_images:,} test images, {measured.p50_ms:.3g} ms an image, "
        f"{_bytes(measured.file_bytes)} ({_bytes(measured.compressed_bytes)} compressed), trained in "
        f"{result.timing.train_total_s:.1f} s.",
    ]
    return "\n\n".join(lines + _verdict_lines(result))


def _rows(result: CellResult) -> list[Row]:
    m, beside = result.measurement, result.comparison

    def row(name: str, own: float, other: float | None, show: Callable[[float], str], gain: float | None) -> Row:
        if other is None:
            return name, show(own), "", "", ""
        change = f"{100 * (own - other):+.2f} points" if name == "accuracy" else f"x {own / other:.3f}"
        return name, show(own), show(other), change, f"{gain:+.2f} dB" if gain is not None else ""

    b, trained_s = _Baseline(beside), result.timing.train_total_s
    rows = [
        row("accuracy", m.accuracy, b.accuracy, lambda v: f"{v:.2%}", b.gain("accuracy")),
        row("test time, p50", m.p50_ms, b.p50_ms, lambda v: f"{v:.4g} ms", b.gain("test_time")),
        row("training time, total", trained_s, b.train_s, lambda v: f"{v:.1f} s", b.gain("train_time")),
        row("file", m.file_bytes, b.file_bytes, _bytes, None),
        row("file, compressed", m.compressed_bytes, b.compressed_bytes, _bytes, b.gain("size")),
    ]
    score = result.score.total
    if beside is None:
        return [*rows, ("operational score", f"{score:.2f} dB", "", "", "")]
    total = beside.gain.total
    return [*rows, ("operational score", f"{score:.2f} dB", f"{score - total:.2f} dB", "", f"{total:+.2f} dB")]


class _Baseline:
    """The baseline's column, or nothing at all."""

    def __init__(self, beside: Comparison | None) -> None:
        self._beside = beside
        self.accuracy = beside.baseline_accuracy if beside else None
        self.p50_ms = beside.baseline_p50_ms if beside else None
        self.train_s = beside.baseline_train_s if beside else None
        self.file_bytes = beside.baseline_file_bytes if beside else None
        self.compressed_bytes = beside.baseline_compressed_bytes if beside else None

    def gain(self, criterion: str) -> float | None:
        return float(getattr(self._beside.gain, criterion)) if self._beside else None


def _verdict_lines(result: CellResult) -> list[str]:
    lines = []
    if result.comparison is not None:
        c = result.comparison
        lines.append(
            f"Against its baseline: accuracy {c.accuracy} (p = {c.accuracy_p_value:.3g}), time {c.time} "
            f"(x {c.latency_ratio:.3f}, 95% interval {c.ratio_low:.3f} to {c.ratio_high:.3f}), size {c.size}: "
            f"better in {c.dimensions_improved} of 3 dimensions."
        )
    found = result.majority and no_better_than_majority(
        result.majority.p_value, result.majority.share, result.majority.answer
    )
    if found:
        lines.append(f"It has learnt nothing that shows: {found}.")
    lines.extend(f"Not feasible: {violation}." for violation in result.violations)
    return lines


def _bytes(count: float) -> str:
    return f"{count / 1e6:.3f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
