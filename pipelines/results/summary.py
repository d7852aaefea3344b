"""A finished cell in words: the table for the terminal and the note for MLflow."""

from __future__ import annotations

from collections.abc import Callable

from wcwidth import width

from pipelines.results import acceleration
from pipelines.results.columns import UNKNOWN
from pipelines.results.records import DIMENSIONS, CellResult, Comparison, Measurement, Verdict
from pipelines.results.score import STATE_TRAINED_S
from pipelines.results.tables import aligned
from pipelines.results.verdict import no_better_than_majority

# A difference of accuracy and balanced accuracy that is worth a word.
MIN_BALANCED = 0.005
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
        f"Accuracy {measured.accuracy:.2%} on {measured.test_images:,} test images{_balanced(measured)}, "
        f"{measured.p50_ms:.3g} ms an image, "
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
        # Of the test time, the ratio of the undisturbed times, as in the verdict.
        ratio = baseline.latency_ratio if field == "p50_ms" else own / other
        change = f"{100 * (own - other):+.2f} points" if name == "accuracy" else f"x {ratio:.3f}"
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
        lines += [_verdict(result, c), _repeat(c), _dimensions(c)]
    if result.timing.train_total_s is None:
        lines.append(f"The training time is unknown, so the score leaves it out: {STATE_TRAINED_S} counts it.")
    if (one := result.majority) and (finding := no_better_than_majority(one.p_value, one.share, one.answer)):
        lines.append(f"It has learnt nothing detectable: {finding}.")
    lines.extend(acceleration.sentences(result))
    lines.extend(f"Not feasible: {violation}." for violation in result.violations)
    return lines


def _verdict(result: CellResult, comparison: Comparison) -> str:
    """Size, test time and accuracy against the baseline's, in at most 80 columns."""
    size_ratio = result.measurement.compressed_bytes / comparison.baseline_compressed_bytes
    points = 100 * (result.measurement.accuracy - comparison.baseline_accuracy)
    value, p_value = f"{result.measurement.accuracy:.1%}", f"p = {comparison.accuracy_p_value:.2g}"
    accuracy = {
        "tied": f"accuracy tied ({value}, {points:+.1f} points, {p_value})",
        "better": f"accuracy better by {points:.1f} points ({p_value})",
        "worse": f"accuracy worse by {-points:.1f} points ({p_value})",
    }[comparison.accuracy]
    if not points:
        accuracy = f"accuracy unchanged ({value}, {p_value})"
    parts = (
        _times(size_ratio, comparison.size, ("smaller", "larger", "equally large")),
        _times(comparison.latency_ratio, comparison.test_time or comparison.time, ("faster", "slower", "equally fast")),
        accuracy,
    )
    return f"Against its baseline: {', '.join(parts)}."


def _times(ratio: float, verdict: Verdict, words: tuple[str, str, str]) -> str:
    smaller, larger, equal = words
    if verdict == "tied":
        return equal
    return f"{1 / ratio:.2f} times {smaller}" if verdict == "better" else f"{ratio:.2f} times {larger}"


def _repeat(comparison: Comparison) -> str:
    low, high = comparison.ratio_low, comparison.ratio_high
    return f"Test time x {comparison.latency_ratio:.3f}; a repeat gives x {low:.3f} to {high:.3f} in 95%."


def _dimensions(comparison: Comparison) -> str:
    """In which of the article's dimensions the cell is worse, and in which better. What is worse comes first."""
    marks = {name: getattr(comparison, name) for name in DIMENSIONS}
    found = {mark: [name for name in DIMENSIONS if marks[name] == mark] for mark in ("worse", "better")}
    parts = [f"{mark} in {' and '.join(names)}" for mark, names in found.items() if names] or ["tied in all"]
    line = "; ".join(parts)
    return f"{line[0].upper()}{line[1:]} (of 3 dimensions; time is testing and training together)."


def _balanced(measured: Measurement) -> str:
    """The balanced accuracy where it is another one, as on a test set with unequally many images of each class."""
    balanced = measured.balanced_accuracy
    differs = balanced is not None and abs(balanced - measured.accuracy) >= MIN_BALANCED
    return f" ({balanced:.2%} balanced over the classes)" if differs else ""


def _trained(result: CellResult) -> str:
    seconds = result.timing.train_total_s
    return "training time unknown" if seconds is None else f"trained in {seconds:.1f} s"


def _known(value: float | None, form: Callable[[float], str]) -> str:
    return UNKNOWN if value is None else form(value)


def _bytes(count: float) -> str:
    return f"{count / 1e6:.3f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
