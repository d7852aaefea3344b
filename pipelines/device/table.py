"""A session's results as tables for the terminal."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from pipelines.device.results import LIMIT, DeviceResult, Latency, disagree
from pipelines.results.acceleration import outside
from pipelines.results.columns import FILE, percent, three_digits
from pipelines.results.tables import TextColumn, fitted, wrapped
from pipelines.system import terminal

# So many reasons of a kind are listed.
MAX_ALIKE = 4


def text(results: Sequence[DeviceResult], *, width: float = terminal.UNLIMITED) -> str:
    """For a terminal of `width` columns: latency, then all other figures, then why figures are INVALID or missing."""
    notes = "\n".join(wrapped(note, width) for note in _notes(results))
    return "\n\n".join(part for part in (_latency(results, width), _others(results, width), notes) if part)


def _latency(results: Sequence[DeviceResult], width: float) -> str:
    rows = [(one, threads, latency) for one in results for threads, latency in one.latency.items()]
    latencies = [latency for *_, latency in rows]
    intervals = [f"{three_digits(one.p50_low_ms)} to {three_digits(one.p50_high_ms)}" for one in latencies]
    p99s = ["-" if one.p99_ms is None else three_digits(one.p99_ms) for one in latencies]
    # A cell whose baseline is lost has none, and is none either.
    references = {one.reference for one in results}
    ratios = [
        _ratio(latency, is_reference=(one.label, one.runtime) in references or len(results) == 1)
        for one, _, latency in rows
    ]
    columns = [
        TextColumn(heading="model", texts=_labels([one for one, *_ in rows], width), left=True),
        *_runtimes([one for one, *_ in rows]),
        TextColumn(heading="threads", texts=[str(threads) for _, threads, _ in rows]),
        TextColumn(heading="p50 ms", texts=[three_digits(one.p50_ms) for one in latencies]),
        TextColumn(heading="95% repeat", texts=intervals, rank=2),
        TextColumn(heading="p90 ms", texts=[three_digits(one.p90_ms) for one in latencies], rank=3),
        TextColumn(heading="p99 ms", texts=p99s, rank=3),
        TextColumn(heading="ratio", texts=[ratio for ratio, _ in ratios]),
        TextColumn(heading="95% repeat", texts=[interval for _, interval in ratios], rank=1),
        TextColumn(heading="calls", texts=[str(one.calls) for one in latencies], rank=4),
        TextColumn(heading="", texts=["INVALID" if _is_invalid(one, of) else "" for one, _, of in rows], left=True),
    ]
    return fitted(columns, width)


def _is_invalid(one: DeviceResult, latency: Latency) -> bool:
    """Whether a time does not count: it is not reliable, or that of other answers."""
    return bool(latency.invalid or (one.agreement and one.agreement.invalid))


def _labels(results: Sequence[DeviceResult], width: float) -> list[str]:
    """The label of each row; in a terminal, of the first of several rows of one model."""
    labels = [one.label for one in results]
    if width == terminal.UNLIMITED:
        return labels
    return ["" if number and labels[number - 1] == label else label for number, label in enumerate(labels)]


def _runtimes(results: Sequence[DeviceResult]) -> list[TextColumn]:
    """The runtimes, and what they computed in; none where there is one runtime only."""
    if len({one.runtime for one in results}) == 1:
        return []
    return [
        TextColumn(heading="runtime", texts=[one.runtime for one in results], left=True),
        TextColumn(heading="computes in", texts=[one.precision for one in results], left=True, rank=2),
    ]


def _ratio(one: Latency, *, is_reference: bool) -> tuple[str, str]:
    """The ratio to the reference and its interval."""
    if one.ratio is None:
        return ("1" if is_reference else "-"), ""
    assert one.ratio_low is not None and one.ratio_high is not None
    return three_digits(one.ratio), f"{three_digits(one.ratio_low)} to {three_digits(one.ratio_high)}"


def _others(results: Sequence[DeviceResult], width: float) -> str:
    threads = results[0].throughput_threads
    columns = [
        TextColumn(heading="model", texts=_labels(results, width), left=True),
        *_runtimes(results),
        TextColumn(heading="load ms", texts=[three_digits(one.load_ms) for one in results]),
        TextColumn(heading="first call ms", texts=[three_digits(one.first_call_ms) for one in results]),
        TextColumn(heading="memory MB", texts=[three_digits(one.peak_memory_mb) for one in results]),
        TextColumn(heading=FILE.heading, texts=[FILE.text(one.file_bytes) for one in results]),
    ]
    agreements = [one.agreement for one in results]
    if any(agreements):
        same = ["-" if one is None else percent(one.same) for one in agreements]
        columns.append(TextColumn(heading="same class", texts=same))
        if any(one is not None and one.accuracy is not None for one in agreements):
            accuracies = ["-" if one is None or one.accuracy is None else percent(one.accuracy) for one in agreements]
            columns.append(TextColumn(heading="accuracy", texts=accuracies))
    for batch in sorted({batch for one in results for batch in (*one.images_per_s, *one.refused)}):
        rates = [three_digits(one.images_per_s[batch]) if batch in one.images_per_s else "-" for one in results]
        columns.append(TextColumn(heading=f"images/s, {batch} at once, {threads}t", texts=rates, rank=1))
    for count in sorted({count for one in results for count in one.consumption}):
        # A machine has the same counters for all exported models, but one may start again in the middle, or end.
        used = [one.consumption[count].mj_per_image if count in one.consumption else {} for one in results]
        for name in dict.fromkeys(name for of_one in used for name in of_one):
            texts = [three_digits(of_one[name]) if name in of_one else "-" for of_one in used]
            columns.append(TextColumn(heading=f"{name} mJ, {count}t", texts=texts, rank=2))
    return fitted(columns, width)


def _invalid(results: Sequence[DeviceResult]) -> Iterator[str]:
    """A line for each reason, of many that differ only in their numbers the first ones and how many more there are."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for one in results:
        for why in one.invalid:
            kinds[re.sub(r"\d[\d.,]*( threads?: )?", "", why)].append(f"INVALID {one.name}, {why}")
    for lines in kinds.values():
        yield from lines[:MAX_ALIKE]
        if len(lines) > MAX_ALIKE:
            yield f"INVALID for the same reason: {len(lines) - MAX_ALIKE} more, which each model's result.json names."


def _notes(results: Sequence[DeviceResult]) -> list[str]:
    """A line for each reason and each finding; if windows disagree or the limit was reached, also a remedy."""
    notes = list(_invalid(results))
    latencies = [latency for one in results for latency in one.latency.values()]
    if any(disagree(latency.windows_ms) for latency in latencies):
        notes.append(
            "Windows agree if the machine runs nothing else and keeps its frequency, or with a longer profile."
        )
    if any(LIMIT in why for latency in latencies for why in latency.invalid):
        notes.append("Set a higher limit= for the missing calls.")
    for images, real in {(one.agreement.images, one.agreement.real) for one in results if one.agreement}:
        notes.append(f"Classes and accuracies are those of {images:,} {'test images' if real else 'random images'}.")
    slowed = ((one.name, outside([one.delegation])) for one in results if one.delegation)
    notes += [f"{label}: {finding}." for label, finding in slowed if finding]
    return notes + [f"No batch of {batch}: {why}" for one in results for batch, why in one.refused.items()]
