"""A finished cell in words: the table for the terminal and the note for MLflow."""

from __future__ import annotations

from collections.abc import Callable

from wcwidth import width

from pipelines.results.columns import UNKNOWN
from pipelines.results.records import CellResult
from pipelines.results.score import STATE_TRAINED_S
from pipelines.results.tables import aligned
from pipelines.results.verdict import no_better_than_majority

Row = tuple[str, str, str, str, str]


def table(result: CellResult) -> str:
    """The result table for a terminal, with the baseline's values where the cell has a baseline."""
    rows = [("", result.technique, "baseline", "change", "score gain"), *_rows(result)]
    lines = aligned(rows if result.comparison else [row[:2] for row in rows]).splitlines()
    rule = "-" * max(map(width, lines))
    title = f"{result.name}, seed {result.seed}"
    own = [f"{name} {value:,.4g}" for name, value in result.metrics.items()]
    return "\n".join([title, rule, lines[0], rule, *lines[1:], rule, *own, *_verdict_lines(result)])


def note(result: CellResult) -> str:
    """The result in three lines of markdown."""
    measured = result.measurement
    lines = [
        f"**{result.name}**: score **{result.score.total:.1f} dB**"
        + (f", {result.comparison.gain.total:+.1f} dB against its baseline." if result.comparison else "."),
        f"Accuracy {measured.accuracy:.2%} on {measured.test_images:,} test images, {measured.p50_ms:.3g} ms an image, "
        f"{_bytes(measured.file_bytes)} ({_bytes(measured.compressed_bytes)} compressed), {_trained(result)}.",
    ]
    return "\n\n".join(lines + _verdict_lines(result))


def _rows(result: CellResult) -> list[Row]:
    """A row for each value: name, own value, the baseline's, change and gain, the last three empty without one."""
    m, baseline, score = result.measurement, result.comparison, result.score.total
    rows: list[Row] = []
    for name, own, field, form, criterion in (
        ("accuracy", m.accuracy, "accuracy", "{:.2%}".format, "accuracy"),
        ("test time, p50", m.p50_ms, "p50_ms", "{:.4g} ms".format, "test_time"),
        ("training time, total", result.timing.train_total_s, "train_s", "{:.1f} s".format, "train_time"),
        ("file", m.file_bytes, "file_bytes", _bytes, ""),
        ("file, compressed", m.compressed_bytes, "compressed_bytes", _bytes, "size"),
    ):
        if baseline is None:
            rows.append((name, _known(own, form), "", "", ""))
            continue
        other: float | None = getattr(baseline, f"baseline_{field}")
        if own is None or other is None:
            rows.append((name, _known(own, form), _known(other, form), "", ""))
            continue
        change = f"{100 * (own - other):+.2f} points" if name == "accuracy" else f"x {own / other:.3f}"
        part = f"{getattr(baseline.gain, criterion):+.2f} dB" if criterion else ""
        rows.append((name, form(own), form(other), change, part))
    if baseline is None:
        return [*rows, ("operational score", f"{score:.2f} dB", "", "", "")]
    gain = baseline.gain.total
    return [*rows, ("operational score", f"{score:.2f} dB", f"{score - gain:.2f} dB", "", f"{gain:+.2f} dB")]


def _verdict_lines(result: CellResult) -> list[str]:
    lines = []
    if result.comparison is not None:
        c = result.comparison
        lines.append(
            f"Against its baseline: accuracy {c.accuracy} (p = {c.accuracy_p_value:.3g}), time {c.time} "
            f"(x {c.latency_ratio:.3f}, a repeat gives {c.ratio_low:.3f} to {c.ratio_high:.3f} in 95%), size {c.size}: "
            f"better in {c.dimensions_improved} of 3 dimensions."
        )
    if result.timing.train_total_s is None:
        lines.append(f"The training time is unknown, so the score leaves it out: {STATE_TRAINED_S} counts it.")
    if (one := result.majority) and (finding := no_better_than_majority(one.p_value, one.share, one.answer)):
        lines.append(f"It has learnt nothing detectable: {finding}.")
    lines.extend(f"Not feasible: {violation}." for violation in result.violations)
    return lines


def _trained(result: CellResult) -> str:
    seconds = result.timing.train_total_s
    return "training time unknown" if seconds is None else f"trained in {seconds:.1f} s"


def _known(value: float | None, form: Callable[[float], str]) -> str:
    return UNKNOWN if value is None else form(value)


def _bytes(count: float) -> str:
    return f"{count / 1e6:.3f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
