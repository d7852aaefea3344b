"""Which cells of a comparison LiteRT does not accelerate, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pipelines.comparison.entries import Entry
from pipelines.results.acceleration import no_faster, outside
from pipelines.results.cell_result import Delegation
from pipelines.results.on_device import LITERT
from pipelines.system.words import some


def notes(entries: Sequence[Entry]) -> list[str]:
    """A sentence for each finding, with the first of its cells and the number of the others.

    Of cells on another runtime of a device, LiteRT's delegate says nothing.
    """
    entries = [entry for entry in entries if entry.runtime in ("", LITERT)]
    alike: dict[object, list[tuple[Entry, Delegation]]] = defaultdict(list)
    for entry in entries:
        found = entry.runs[-1].delegation
        if found is not None:
            alike[found.int16, not found.partitions, frozenset(found.undelegated)].append((entry, found))
    findings = [
        (outside([found for _, found in group]), [entry.label for entry, _ in group]) for group in alike.values()
    ]
    others: dict[str | None, list[str]] = defaultdict(list)
    for entry in entries:
        finding = no_faster(entry.technique, entry.marks.get("test_time"), entry.runs[-1].delegation)
        others[finding].append(entry.label)
    return [f"{some(labels, 1)}: {finding}." for finding, labels in [*findings, *others.items()] if finding]
