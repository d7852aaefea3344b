"""A sweep's outcomes as text for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from pipelines.results.columns import GAIN, HEADLINE, SCORE
from pipelines.results.metrics import TRAIN_S, majority_of
from pipelines.results.outcome import Outcome
from pipelines.results.score import STATE_TRAINED_S
from pipelines.results.tables import TextColumn, fitted, wrapped
from pipelines.results.verdict import no_better_than_majority
from pipelines.system import terminal
from pipelines.system.words import number_of

# Overrides that a cell's name shows already.
IN_THE_NAME = ("model=", "dataset=", "technique=")


def summary_of(
    outcomes: Sequence[Outcome],
    spent: Mapping[str, float],
    *,
    dataset: str = "",
    place: str = "",
    width: float = terminal.UNLIMITED,
) -> str:
    """The table of the outcomes, notes on them, and the time, for a terminal of `width` columns.

    spent: seconds by part. dataset: the name of the only dataset, which the table leaves out. place: the options by
    which a command finds the cells.
    """
    if not outcomes:
        return "no cell has run"
    notes = (*_uninformed(outcomes), *_train_unknown(outcomes), _spent(spent))
    return "\n".join([_table(outcomes, dataset, place, width), *(wrapped(note, width) for note in notes if note)])


def progress_line(
    outcome: Outcome, count: int, total: int, *, swept: Collection[str] = (), log: Path | None = None
) -> str:
    """A new outcome. count: of the outcomes so far. swept: the keys of the grid. log: the output of a failed cell."""
    own = [one for one in outcome.overrides if one.partition("=")[0] in swept and not one.startswith(IN_THE_NAME)]
    line = f"[{count:{len(str(total))}d}/{total}] {outcome.status:7} {' '.join([outcome.name, *own])}"
    if outcome.metrics:
        line += f"  {SCORE.text(outcome.metrics[SCORE.metric])} dB"
    if GAIN.metric in outcome.metrics:
        line += f" ({GAIN.text(outcome.metrics[GAIN.metric])})"
    lines = [f"{line}  {duration(outcome.seconds)}", outcome.message]
    if outcome.status == "failed" and log and str(log) not in outcome.message:
        lines.append(f"its output is in {log}")
    return "\n    ".join(filter(None, lines))


def count_line(outcomes: Collection[Outcome], total: int, seconds: float) -> str:
    """How many cells have an outcome, and an estimate of the time left. seconds: since the sweep began."""
    line = f"{len(outcomes)} of {number_of(total, 'cell')} after {duration(seconds)}"
    # Cells that were reused or skipped took no time.
    computed = sum(one.status in ("done", "failed") for one in outcomes)
    left = total - len(outcomes)
    return f"{line}, about {duration(seconds / computed * left)} left" if computed and left else line


def duration(seconds: float) -> str:
    """`42 s`, `3 min 5 s`, `2 h 10 min`."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"


def _table(outcomes: Sequence[Outcome], dataset: str, place: str, width: float) -> str:
    """A row per cell, without the overrides that all cells share or that the cell's name shows."""
    shared = set.intersection(*(set(outcome.overrides) for outcome in outcomes))
    own = [
        " ".join(one for one in outcome.overrides if one not in shared and not one.startswith(IN_THE_NAME))
        for outcome in outcomes
    ]
    figures = [
        TextColumn(
            heading=column.heading,
            texts=[column.text(one.metrics.get(column.metric)) for one in outcomes],
            rank=1 if column is GAIN else 0,
        )
        for column in HEADLINE
    ]
    columns = [
        TextColumn(
            heading="cell",
            texts=[outcome.name.replace(f"-{dataset}-", "-", 1) if dataset else outcome.name for outcome in outcomes],
            left=True,
        ),
        TextColumn(heading="settings", texts=own, left=True),
        TextColumn(heading="status", texts=[outcome.status for outcome in outcomes], left=True),
        *figures,
        TextColumn(heading="took", texts=[duration(outcome.seconds) for outcome in outcomes], rank=2),
        TextColumn(heading="run", texts=[outcome.run_id[:8] for outcome in outcomes], rank=3),
    ]
    return fitted(columns, width, more=wider(place))


def wider(place: str) -> str:
    """What shows all columns of a sweep's tables. place: the options of experiment and store."""
    return f"a wider terminal, or `opscore compare --sweep last{place} --wide`"


def _uninformed(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A sentence for each cell whose accuracy is no better than that of one constant answer."""
    for outcome in outcomes:
        if found := no_better_than_majority(majority_of(outcome.metrics)):
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
