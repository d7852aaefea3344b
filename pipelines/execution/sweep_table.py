"""A sweep's outcomes as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipelines.results.columns import HEADLINE
from pipelines.results.metrics import MAJORITY_P_VALUE, MAJORITY_SHARE
from pipelines.results.outcome import Outcome
from pipelines.results.verdict import no_better_than_majority

# What a cell's name tells already.
IN_THE_NAME = ("model=", "dataset=", "technique=")


def table(outcomes: Sequence[Outcome]) -> str:
    """Outcomes as an aligned table; overrides that all cells share, or that the cell's name tells, are left out."""
    from pipelines.results.tables import aligned

    shared = set.intersection(*(set(outcome.overrides) for outcome in outcomes))
    rows = [["cell", "with", "status", *(column.heading for column in HEADLINE), "took", "run"]]
    for outcome in outcomes:
        own = [one for one in outcome.overrides if one not in shared and not one.startswith(IN_THE_NAME)]
        shown = [column.text(outcome.metrics.get(column.metric)) for column in HEADLINE]
        took = duration(outcome.seconds)
        rows.append([outcome.name, " ".join(own), outcome.status, *shown, took, outcome.run_id[:8]])
    if not any(row[1] for row in rows[1:]):
        rows = [[row[0], *row[2:]] for row in rows]
    return aligned(rows)


def uninformed_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """A sentence for each cell whose accuracy is no better than that of one constant answer."""
    lines = []
    for outcome in outcomes:
        p_value, share = (outcome.metrics.get(name) for name in (MAJORITY_P_VALUE, MAJORITY_SHARE))
        found = no_better_than_majority(p_value, share, "")
        if found:
            lines.append(f"{outcome.name}, run {outcome.run_id[:8]}, is {found}.")
    return lines


def spent_line(spent: Mapping[str, float]) -> str:
    """Where the cells' time went, the largest part first; empty where nothing is known."""
    total = sum(spent.values())
    if not total:
        return ""
    parts = sorted(spent.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {value / total:.0%}" for name, value in parts if value / total >= 0.005)
    return f"The cells' processes took {duration(total)}: {shown}."


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
