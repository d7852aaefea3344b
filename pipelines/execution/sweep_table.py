"""A sweep's outcomes as text for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipelines.results.columns import GAIN, HEADLINE, SCORE
from pipelines.results.metrics import MAJORITY_P_VALUE, MAJORITY_SHARE, TRAIN_S
from pipelines.results.outcome import Outcome
from pipelines.results.score import STATE_TRAINED_S
from pipelines.results.verdict import no_better_than_majority

# Overrides that a cell's name shows already.
IN_THE_NAME = ("model=", "dataset=", "technique=")


def summary_of(outcomes: Sequence[Outcome], spent: Mapping[str, float]) -> str:
    """The table of the outcomes, notes on them, and the time. spent: seconds by part."""
    if not outcomes:
        return "no cell has run"
    return "\n".join([_table(outcomes), *_uninformed(outcomes), *_train_unknown(outcomes), _spent(spent)]).strip()


def progress_line(outcome: Outcome, outcomes: Mapping[int, Outcome], total: int, seconds: float) -> str:
    """A new outcome, with an estimate of the time left. outcomes: all so far. seconds: since the sweep began."""
    parts = [f"[{len(outcomes):{len(str(total))}d}/{total}]", f"{outcome.status:7}", outcome.name]
    if outcome.metrics:
        parts.append(f"{SCORE.text(outcome.metrics[SCORE.metric])} dB")
    if GAIN.metric in outcome.metrics:
        parts.append(f"({GAIN.text(outcome.metrics[GAIN.metric])})")
    parts.append(duration(outcome.seconds))
    # Cells that were reused or skipped took no time.
    computed = sum(one.status in ("done", "failed") for one in outcomes.values())
    left = total - len(outcomes)
    if computed and left:
        parts.append(f"about {duration(seconds / computed * left)} left")
    return "  ".join(parts) + (f"\n    {outcome.message}" if outcome.message else "")


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"


def _table(outcomes: Sequence[Outcome]) -> str:
    """A row per cell, without the overrides that all cells share or that the cell's name shows."""
    from pipelines.results.tables import aligned

    shared = set.intersection(*(set(outcome.overrides) for outcome in outcomes))
    rows = [["cell", "with", "status", *(column.heading for column in HEADLINE), "took", "run"]]
    for outcome in outcomes:
        own = [one for one in outcome.overrides if one not in shared and not one.startswith(IN_THE_NAME)]
        figures = [column.text(outcome.metrics.get(column.metric)) for column in HEADLINE]
        took = duration(outcome.seconds)
        rows.append([outcome.name, " ".join(own), outcome.status, *figures, took, outcome.run_id[:8]])
    if not any(row[1] for row in rows[1:]):
        rows = [[row[0], *row[2:]] for row in rows]
    return aligned(rows)


def _uninformed(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A sentence for each cell whose accuracy is no better than that of one constant answer."""
    for outcome in outcomes:
        p_value, share = (outcome.metrics.get(name) for name in (MAJORITY_P_VALUE, MAJORITY_SHARE))
        if found := no_better_than_majority(p_value, share, ""):
            yield f"{outcome.name}, run {outcome.run_id[:8]}, is {found}."


def _train_unknown(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A sentence where scores leave an unknown training time out."""
    scored = [outcome for outcome in outcomes if SCORE.metric in outcome.metrics]
    unknown = sum(TRAIN_S not in outcome.metrics for outcome in scored)
    if unknown:
        yield (
            f"The training time of {unknown} of {len(scored)} cells is unknown, so their scores leave it out; "
            f"`opscore compare` leaves it out of all. {STATE_TRAINED_S} counts it."
        )


def _spent(spent: Mapping[str, float]) -> str:
    """The cells' time by part, the largest first; empty where nothing is known."""
    total = sum(spent.values())
    if not total:
        return ""
    largest_first = sorted(spent.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{name} {value / total:.0%}" for name, value in largest_first if value / total >= 0.005)
    return f"The cells' processes took {duration(total)}: {shares}."
