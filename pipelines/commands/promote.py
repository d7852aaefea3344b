"""Make the fittest finished cell of a dataset its champion: `opscore promote --dataset cifar10`.

A cell must have learnt something: be right significantly more often than a constant answer, or tell the classes apart
and be no less often right. It must keep the budgets of its score profile, lose at most --max-drop of accuracy to the
most accurate candidate and to the champion, score better than the champion by more than a tie, unless the champion
fails one of these itself, and not be significantly less accurate than the champion by more than --margin. Seeds are
taken together: their means count. MLflow registers the winner as opscore-<dataset> with the alias champion, and the
former champion gets the alias previous.

  opscore promote --dataset cifar10 --sweep last --dry-run       shows the shortlist, changes nothing
  opscore promote --dataset cifar10 --max-drop 0.005
  opscore promote --dataset cifar10 --filter 'tags.model = "resnet50"' --margin 0.005
  opscore promote --dataset cifar10 --target kitchen-pi      decides by the times that were measured there
  opscore promote --dataset cifar10 --anew       ignores the champion, for example if its run is lost

`opscore rollback` returns to an earlier champion.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress

import click

from pipelines.champion import gates
from pipelines.commands import arguments, selection
from pipelines.commands.candidates import Candidates
from pipelines.commands.selection import Selection
from pipelines.comparison import shortlist_text
from pipelines.comparison.entries import Entry
from pipelines.comparison.on_device import Device
from pipelines.comparison.ranking import compare
from pipelines.comparison.shortlist import MAX_DROP, doubts_of, points, shortlisted
from pipelines.results.columns import SCORE
from pipelines.results.recorded_cell import RecordedCell
from pipelines.results.tables import TextColumn, fitted, wrapped
from pipelines.system import checks, terminal
from pipelines.system.errors import StoreError
from pipelines.tracking.artifacts import check_usable
from pipelines.tracking.registry import CHAMPION, Registry

MAX_MISSES = 5


def promoted(
    chosen: Selection,
    *,
    limits: gates.Limits,
    dry_run: bool,
    anew: bool,
    device: Device | None = None,
    width: float = terminal.UNLIMITED,
) -> str:
    """Promote the winner among the cells of a dataset; gives a report for a terminal of `width` columns.

    anew: ignore the champion. device: whose times count; None for those of the cells' own runs. Raises MisuseError, or
    ValueError where the cells cannot be compared or none passes the gates: with the nearest misses, and the rest of the
    report is printed before.
    """
    candidates = Candidates.of(chosen, anew=anew, device=device)
    name, version, registry = candidates.name, candidates.version, candidates.registry
    if not dry_run:
        with arguments.checked():
            check_usable(registry.uri)
    decision = candidates.decide(limits)
    lines = [wrapped(line, width) for line in candidates.heading()]
    if dry_run:
        lines += [*_shortlists(candidates.cells, registry, width), ""]
    winner = decision.winner
    if winner is None:
        if not decision.stands:
            # The refusal goes to stderr, and what is known of the figures before it.
            print("\n".join(lines), flush=True)
        return "\n".join([*lines, _nobody(decision, candidates, width, device)])
    # A champion that fails a gate itself is among them, whatever its score.
    better = [one for one in decision.misses if one.entry.score.value > winner.entry.score.value]
    if better:
        lines.append("With better scores, but refused:\n" + _misses(better, registry, width))
    lines.append(wrapped(f"{_named(winner.cell)} passes all gates:", width) + "\n" + _passed(winner, width))
    unsure = _unsure(winner, decision.most_accurate, limits, registry)
    lines += [wrapped(f"Note: {unsure}.", width)] if unsure else []
    if dry_run:
        instead = f" in the place of version {version.number}" if version else ""
        ending = f"Dry run: it would be {CHAMPION} of {name}{instead}; nothing was changed."
    else:
        ending = candidates.register(winner, decision.champion)
    return "\n".join([*lines, wrapped(ending, width)])


def _shortlists(cells: Sequence[RecordedCell], registry: Registry, width: float) -> Iterator[str]:
    for _, listed in shortlisted(compare(cells), registry.right):
        if listed is not None:
            yield "\n" + shortlist_text.text(listed, width=width, more="a wider terminal, or `opscore compare --wide`")


def _unsure(winner: gates.Assessment, top: Entry | None, limits: gates.Limits, registry: Registry) -> str | None:
    """That the winner may lose more accuracy than allowed, with all its seeds, as in the shortlist, or with its own."""
    if top is None or any(run.run_id == winner.cell.run_id for run in top.runs):
        return None
    doubts = (
        doubts_of(runs, top.runs, [limits.max_drop], registry.right)[0] for runs in (winner.entry.runs, [winner.cell])
    )
    unsure = next(filter(None, doubts), "")
    return f"that it loses at most {points(limits.max_drop)} is {unsure}" if unsure else None


def _misses(judged: Sequence[gates.Assessment], registry: Registry, width: float) -> str:
    """A table of the nearest misses, with the gate that each failed and by how much."""
    nearest = judged[:MAX_MISSES]
    failed = [one.gates[-1] for one in nearest]
    reasons = [
        # Those of its run are by the times there.
        (_broken_budgets(one.judged, registry) if gate.name == "feasible" and not one.cell.device else "")
        or gate.reason
        for one, gate in zip(nearest, failed, strict=True)
    ]
    scores = [SCORE.text(one.entry.score.value) for one in nearest]
    seeds = [f"{one.judged.seed}{_of(len(one.entry.runs))}" for one in nearest]
    columns = [
        TextColumn(heading="cell", texts=[one.cell.name for one in nearest], left=True),
        TextColumn(heading="seed", texts=seeds),
        TextColumn(heading="run", texts=[one.judged.run_id[:8] for one in nearest]),
        TextColumn(heading=SCORE.heading, texts=scores),
        TextColumn(heading="failed", texts=[gate.name for gate in failed]),
        TextColumn(heading="by", texts=reasons, left=True),
    ]
    more = f"\nand {len(judged) - MAX_MISSES} more" if len(judged) > MAX_MISSES else ""
    return fitted(columns, width) + more


def _of(seeds: int) -> str:
    return f" of {seeds} seeds" if seeds > 1 else ""


@click.command("promote", cls=arguments.WordCommand, help=__doc__)
@selection.of_one_dataset
@selection.on_device
@arguments.setting(
    "--max-drop",
    metavar="FRACTION",
    default=f"{MAX_DROP:g}",
    show_default=True,
    help="Accuracy that may be lost to the most accurate cell; 0.02 is two points.",
)
@arguments.setting(
    "--margin",
    metavar="FRACTION",
    default="0.01",
    show_default=True,
    help="Refuse a cell that is certainly (95%) less accurate than the champion by more than this.",
)
@arguments.DRY_RUN()
@click.option("--anew", is_flag=True, help="Ignore the champion: the best candidate replaces it.")
def command(chosen: Selection, *, device: Device | None, max_drop: str, margin: str, dry_run: bool, anew: bool) -> None:
    """Promote, and print the report."""
    with arguments.checked():
        limits = gates.Limits(max_drop=_fraction("--max-drop", max_drop), margin=_fraction("--margin", margin))
    print(promoted(chosen, limits=limits, dry_run=dry_run, anew=anew, device=device, width=terminal.columns()))


def _fraction(name: str, text: str) -> float:
    try:
        fraction: float | str = float(text)
    except ValueError:
        fraction = text
    checks.fraction(name, fraction, zero=True)
    return float(fraction)


def _named(cell: RecordedCell) -> str:
    return f"{cell.name}, seed {cell.seed}, run {cell.run_id}"


def _nobody(decision: gates.Decision, candidates: Candidates, width: float, device: Device | None) -> str:
    name, version, registry = candidates.name, candidates.version, candidates.registry
    nearest = _misses(decision.misses, registry, width) if decision.misses else ""
    if version is None or decision.champion is None or not decision.stands:
        raise ValueError(f"none of the candidates for {name} passes all gates, the nearest misses:\n{nearest}")
    deployed = f"{decision.champion.name}, seed {decision.champion.seed}, run {version.run_id}"
    standing = f"Nothing to do: version {version.number}, {deployed}, stays the champion."
    if device is not None:
        pull = f"{registry.option(name)} --target {shlex.quote(device.target)}"
        standing += f" `opscore pull {pull}` takes it for its fastest runtime there."
    standing = wrapped(standing, width)
    return f"Not passing all gates:\n{nearest}\n{standing}" if nearest else standing


def _broken_budgets(cell: RecordedCell, registry: Registry) -> str:
    """The budgets that a cell breaks; empty where its record is lost."""
    with suppress(StoreError):
        return "; ".join(registry.result(cell.run_id).violations)
    return ""


def _passed(winner: gates.Assessment, width: float) -> str:
    columns = [
        TextColumn(heading="  gate", texts=[f"  {gate.name}" for gate in winner.gates], left=True),
        TextColumn(heading="reason", texts=[gate.reason for gate in winner.gates], left=True),
    ]
    return fitted(columns, width)
