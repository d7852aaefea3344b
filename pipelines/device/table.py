"""A session's results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.device.results import DeviceResult, Latency
from pipelines.results.acceleration import outside
from pipelines.results.columns import FILE
from pipelines.results.tables import aligned


def text(results: Sequence[DeviceResult]) -> str:
    """Latency, then all other figures, then why figures are INVALID or missing."""
    return "\n\n".join(part for part in (_latency(results), _others(results), "\n".join(_notes(results))) if part)


def _latency(results: Sequence[DeviceResult]) -> str:
    rows = [["model", "threads", "p50 ms", "95% repeat", "p90 ms", "p99 ms", "ratio", "95% repeat", "calls", ""]]
    for measured in results:
        for threads, one in measured.latency.items():
            rows.append([measured.label, str(threads), *_row(one, measured.reference is None)])
    return aligned(rows)


def _row(one: Latency, is_reference: bool) -> list[str]:
    ratio, interval = ("1" if is_reference else "-"), ""
    if one.ratio is not None:
        ratio, interval = f"{one.ratio:.4g}", f"{one.ratio_low:.4g} to {one.ratio_high:.4g}"
    return [
        f"{one.p50_ms:.4g}",
        f"{one.p50_low_ms:.4g} to {one.p50_high_ms:.4g}",
        f"{one.p90_ms:.4g}",
        "-" if one.p99_ms is None else f"{one.p99_ms:.4g}",
        ratio,
        interval,
        str(one.calls),
        "INVALID" if one.invalid else "",
    ]


def _others(results: Sequence[DeviceResult]) -> str:
    batches = sorted({batch for one in results for batch in (*one.images_per_s, *one.refused)})
    threads = results[0].throughput_threads
    rates = [f"images/s, {batch} at once, {threads}t" for batch in batches]
    # A machine has the same counters for all exported models.
    used = [(name, threads) for threads, one in results[0].consumption.items() for name in one.joules]
    energies = [f"{name} mJ, {threads}t" for name, threads in used]
    rows = [["model", "load ms", "first call ms", "memory MB", FILE.heading, *rates, *energies]]
    for one in results:
        rows.append(
            [
                one.label,
                f"{one.load_ms:.4g}",
                f"{one.first_call_ms:.4g}",
                f"{one.peak_memory_mb:.1f}",
                FILE.text(one.file_bytes),
                *(f"{one.images_per_s[batch]:,.0f}" if batch in one.images_per_s else "-" for batch in batches),
                *(f"{one.consumption[threads].mj_per_image[name]:.4g}" for name, threads in used),
            ]
        )
    return aligned(rows)


def _notes(results: Sequence[DeviceResult]) -> list[str]:
    """A line for each reason and each finding; if windows disagree or the limit was reached, also a remedy."""
    notes = [f"INVALID {one.label}, {why}" for one in results for why in one.invalid]
    if any("windows" in note for note in notes):
        notes.append(
            "Windows agree if the machine runs nothing else and keeps its frequency, or with a longer profile."
        )
    if any("limit=" in note for note in notes):
        notes.append("Set a higher limit= for the missing calls.")
    slowed = ((one.label, outside([one.delegation])) for one in results)
    notes += [f"{label}: {finding}." for label, finding in slowed if finding]
    return notes + [f"No batch of {batch}: {why}" for one in results for batch, why in one.refused.items()]
