"""A finished cell in words: the table for the terminal and the note for MLflow."""

from __future__ import annotations

from collections.abc import Callable

from wcwidth import width

from pipelines.results import acceleration
from pipelines.results.cell_result import DIMENSIONS, BaselineComparison, CellResult, Measurement, Verdict
from pipelines.results.columns import ACCURACY, GAIN, SCORE, UNKNOWN, kilobytes, milliseconds, seconds, three_digits
from pipelines.results.score import STATE_TRAINED_S, apart_from
from pipelines.results.tables import aligned, plain, wrapped
from pipelines.results.verdict import caution, no_better_than_majority

# A difference of accuracy and balanced accuracy that is worth a word.
MIN_BALANCED = 0.005
# Of a terminal.
COLUMNS = 80
# Smaller p-values are not written out.
MIN_P_VALUE = 0.001
# From here on, a ratio has no decimals in a sentence.
MAX_DECIMALS = 9.995
Row = tuple[str, str, str, str, str]


def table(result: CellResult) -> str:
    """The result table for a terminal of 80 columns, with the baseline's values where the cell has a baseline."""
    rows = [("", "this cell", "baseline", "change", "score gain"), *_rows(result)]
    lines = aligned(rows if result.comparison else [row[:2] for row in rows[1:]]).splitlines()
    rule = "-" * max(map(width, lines))
    heading = [lines.pop(0), rule] if result.comparison else []
    own = [f"{name} {value:,.4g}" for name, value in result.metrics.items()]
    return "\n".join(
        [f"{result.name}, seed {result.seed}", rule, *heading, *lines, rule, *own]
        + [wrapped(line, COLUMNS) for line in _verdict_lines(result)]
    )


def brief(result: CellResult) -> str:
    """The result in one line, of a cell that another cell needs."""
    measured = result.measurement
    figures = (
        ACCURACY.text(measured.accuracy),
        milliseconds(measured.p50_ms),
        kilobytes(measured.compressed_bytes),
        _trained(result),
    )
    return f"{result.name}: {', '.join(figures)}"


def note(result: CellResult) -> str:
    """The result in one paragraph of markdown, as MLflow's page shows four lines of a note at first."""
    measured = result.measurement
    lines = [
        f"**{plain(result.name)}**: score **{result.score.total:.1f} dB**"
        + (f", {result.comparison.gain.total:+z.1f} dB against its baseline." if result.comparison else "."),
        f"Accuracy {ACCURACY.text(measured.accuracy)} on {measured.test_images:,} test images{_balanced(measured)}, "
        f"{milliseconds(measured.p50_ms)} an image, "
        f"{kilobytes(measured.file_bytes)} ({kilobytes(measured.compressed_bytes)} compressed), {_trained(result)}.",
    ]
    return " ".join(lines + _verdict_lines(result, explain=False, literally=plain))


def _rows(result: CellResult) -> list[Row]:
    """A row for each value: name, own value, the baseline's, change and gain, the last three empty without one."""
    m, baseline, score = result.measurement, result.comparison, result.score.total
    rows: list[Row] = []
    for name, own, field, form, criterion in (
        ("accuracy", m.accuracy, "accuracy", ACCURACY.text, "accuracy"),
        ("test time, median", m.p50_ms, "p50_ms", milliseconds, "test_time"),
        ("training time", result.timing.train_total_s, "train_s", seconds, "train_time"),
        ("file size", m.file_bytes, "file_bytes", kilobytes, ""),
        ("compressed size", m.compressed_bytes, "compressed_bytes", kilobytes, "size"),
    ):
        if baseline is None:
            rows.append((name, _known(own, form), "", "", ""))
            continue
        other: float | None = getattr(baseline, f"baseline_{field}")
        if own is None or other is None:
            rows.append((name, _known(own, form), _known(other, form), "", ""))
            continue
        if name == "accuracy":
            change = f"{100 * (own - other):+z.1f} points"
        elif field == "p50_ms":  # the ratio of the undisturbed times, as in the verdict
            change = f"x {three_digits(baseline.latency_ratio)}"
        else:  # a model may come trained in no time
            change = f"x {three_digits(own / other)}" if other else ""
        part = f"{GAIN.text(getattr(baseline.gain, criterion))} dB" if criterion else ""
        if field == "train_s" and not result.compares_trainings:
            change = part = ""
        rows.append((name, form(own), form(other), change, part))
    if baseline is None:
        return [*rows, ("score", f"{SCORE.text(score)} dB", "", "", "")]
    gain = baseline.gain.total
    # Own score and gain differ by the training time where that does not compare.
    known = None not in (result.timing.train_total_s, baseline.baseline_train_s)
    other_score = f"{SCORE.text(score - gain)} dB" if result.compares_trainings or not known else ""
    return [*rows, ("score", f"{SCORE.text(score)} dB", other_score, "", f"{GAIN.text(gain)} dB")]


def _verdict_lines(result: CellResult, *, explain: bool = True, literally: Callable[[str], str] = str) -> list[str]:
    """literally: of text with names of classes."""
    lines = []
    if result.comparison is not None:
        c = result.comparison
        # Without a training time, time is testing alone.
        both = explain and c.train_ratio is not None
        remark = " (time is testing and training together, as the score weighs them)" if both else ""
        lines += [_verdict(result, c), _repeat(c), _dimensions(c) + remark + "."]
    if result.timing.train_total_s is None:
        lines.append(f"The training time is unknown, so the score leaves it out: {STATE_TRAINED_S} counts it.")
    elif result.comparison is not None and not result.compares_trainings:
        lines.append("The same machines did not train it and its baseline, so the gain leaves the training time out.")
    if one := result.majority:
        if finding := no_better_than_majority(one):
            nothing = "It has learnt nothing that these test images show"
            begin = nothing if finding.startswith("no better") else "It has learnt the wrong thing"
            lines.insert(0, f"{begin}: {literally(finding)}.")
        elif known_by_class := caution(one):
            lines.append(literally(known_by_class))
    lines.extend(result.notes)
    lines.extend(acceleration.sentences(result))
    lines.extend(f"Not feasible: {violation}." for violation in result.violations)
    return lines


def _verdict(result: CellResult, comparison: BaselineComparison) -> str:
    """Size, test time and accuracy against the baseline's, in at most 80 columns. What is worse comes first."""
    size_ratio = result.measurement.compressed_bytes / comparison.baseline_compressed_bytes
    test_time = _times(comparison.latency_ratio, comparison.test_time, ("faster", "slower", "test time tied"))
    parts = (
        (comparison.size, _times(size_ratio, comparison.size, ("smaller", "larger", "equally large"))),
        (comparison.test_time, test_time),
        (comparison.accuracy, _accuracy(result.measurement.accuracy, comparison)),
    )
    line = ", ".join(text for verdict, text in sorted(parts, key=lambda part: part[0] != "worse"))
    return f"{line[0].upper()}{line[1:]}."


def _accuracy(value: float, comparison: BaselineComparison) -> str:
    p_value = comparison.accuracy_p_value
    probability = f"p = {p_value:.2g}" if p_value >= MIN_P_VALUE else f"p < {MIN_P_VALUE:g}"
    points = 100 * (value - comparison.baseline_accuracy)
    if comparison.accuracy == "tied":
        tied = f"tied ({points:+z.1f} points" if points else f"unchanged ({ACCURACY.text(value)}"
        return f"accuracy {tied}, {probability})"
    return f"accuracy {apart_from(abs(points), 0, '.1f')} points {comparison.accuracy} ({probability})"


def _times(ratio: float, verdict: Verdict, words: tuple[str, str, str]) -> str:
    smaller, larger, equal = words
    if verdict == "tied":
        return equal
    times, word = (1 / ratio, smaller) if verdict == "better" else (ratio, larger)
    return f"{three_digits(times) if times < MAX_DECIMALS else round(times)} times {word}"


def _repeat(comparison: BaselineComparison) -> str:
    ratio, low, high = map(three_digits, (comparison.latency_ratio, comparison.ratio_low, comparison.ratio_high))
    return f"Test time x {ratio}; 95% of repeats give x {low} to {high}."


def _dimensions(comparison: BaselineComparison) -> str:
    """In which of the article's dimensions the cell is worse, and in which better. What is worse comes first."""
    marks = {name: getattr(comparison, name) for name in DIMENSIONS}
    found = {mark: [name for name in DIMENSIONS if marks[name] == mark] for mark in ("worse", "better")}
    parts = [f"{mark} in {' and '.join(names)}" for mark, names in found.items() if names] or ["tied in all"]
    line = "; ".join(parts)
    return f"{line[0].upper()}{line[1:]}"


def _balanced(measured: Measurement) -> str:
    """The balanced accuracy where it is another one, as on a test set with unequally many images of each class."""
    balanced = measured.balanced_accuracy
    differs = abs(balanced - measured.accuracy) >= MIN_BALANCED
    return f" ({ACCURACY.text(balanced)} balanced over the classes)" if differs else ""


def _trained(result: CellResult) -> str:
    total_s = result.timing.train_total_s
    return "training time unknown" if total_s is None else f"trained in {seconds(total_s)}"


def _known(value: float | None, form: Callable[[float], str]) -> str:
    return UNKNOWN if value is None else form(value)
