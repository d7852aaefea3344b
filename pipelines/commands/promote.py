"""Make the fittest finished cell of a dataset its champion: `opscore promote --dataset cifar10`.

A cell must be right significantly more often than a constant answer, the most frequent class. It must keep the budgets
of its score profile, lose at most --max-drop of accuracy to the most accurate candidate, score better than the
champion by more than a tie, unless the champion fails one of these itself, and not be significantly less accurate than
the champion by more than --margin. Seeds are taken together: their means count. MLflow registers the winner as
opscore-<dataset> with the alias champion, and the former champion gets the alias previous.

  opscore promote --dataset cifar10 --sweep last --dry-run       shows the shortlist, changes nothing
  opscore promote --dataset cifar10 --max-drop 0.005
  opscore promote --dataset cifar10 --filter 'tags.model = "resnet50"' --margin 0.005
  opscore promote --dataset cifar10 --target kitchen-pi      decides by the times that were measured there
  opscore promote --dataset cifar10 --anew       ignores the champion, for example if its run is lost

`opscore rollback` returns to an earlier champion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import click

from pipelines.champion import comparability, description, gates
from pipelines.commands import arguments, rollback, selection
from pipelines.commands.selection import Selection
from pipelines.comparison import shortlist_text, training_time
from pipelines.comparison.anchoring import anchored
from pipelines.comparison.entries import Entry, entries_of, seeds_note
from pipelines.comparison.groups import by_conditions, training_note
from pipelines.comparison.on_device import Device, timed
from pipelines.comparison.ranking import compare
from pipelines.comparison.shortlist import MAX_DROP, doubt, points, shortlist
from pipelines.results import metrics
from pipelines.results.columns import SCORE
from pipelines.results.recorded import RecordedCell
from pipelines.results.tables import TextColumn, fitted, wrapped
from pipelines.results.words import number_of
from pipelines.system import checks, terminal
from pipelines.system.errors import StoreError
from pipelines.tracking.client import TEXT_CHARACTERS
from pipelines.tracking.registry import CHAMPION, PREVIOUS, SHA256, Registry, Version, model_name
from pipelines.tracking.run_files import LostFilesError
from pipelines.tracking.tags import PREFIX

if TYPE_CHECKING:
    from pipelines.tracking.store import Store

MAX_MISSES = 5


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The cells of a dataset that may become its champion.

    name: of the registered model. champion, version: the present one and its version, if any; with --anew, there is no
    champion to compare with. train_time_note: why training times do not count, else empty.
    """

    name: str
    cells: list[RecordedCell]
    champion: RecordedCell | None
    version: Version | None
    registry: Registry
    device_notes: Sequence[str]
    train_time_note: str

    @classmethod
    def of(cls, chosen: Selection, *, anew: bool, device: Device | None) -> Candidates:
        """Choose from a store. Raises MisuseError, ValueError where cells cannot be compared, and StoreError."""
        with arguments.checked():
            name = model_name(arguments.required_dataset(chosen.dataset))
        store = chosen.store()
        registry = Registry(store.uri, store.client, named=chosen.uri)
        version = registry.aliased(name, CHAMPION)
        champion = registry.cell(version) if version and not anew else None
        found = chosen.timed(store, device)
        cells = _newest(found.cells)
        comparability.check_comparable(cells, of_one_sweep=chosen.sweep is not None, chosen_by=chosen.filter)
        if champion:
            champion = _on_device(champion, store, registry, device) if device else _anchored(champion, store)
        compared = training_time.comparable([*cells, champion] if champion else cells)
        return cls(
            name=name,
            cells=compared[: len(cells)],
            champion=compared[-1] if champion else None,
            version=version,
            registry=registry,
            device_notes=found.notes,
            train_time_note=training_time.note(compared) or "",
        )

    def decide(self, limits: gates.Limits) -> gates.Decision:
        """Take them through the gates."""
        again = (
            _remeasured(self.cells, self.champion, self.version, self.registry)
            if self.champion and self.version
            else []
        )
        predictions_of = self.registry.predictions
        return gates.decide(self.cells, self.champion, remeasured=again, predictions_of=predictions_of, limits=limits)

    def heading(self) -> Iterator[str]:
        """How many there are, and what to know of their figures."""
        count = number_of(len(self.cells), "candidate")
        profile = comparability.profile(self.cells[0])
        yield f"{count} for {self.name}, tested on the same images, scored by {profile}"
        yield from self.device_notes
        if trained := training_note(self.cells):
            yield f"Note: the candidates were {trained}."
        if self.train_time_note:
            yield self.train_time_note
        entries = entries_of(self.cells)
        if seeds := seeds_note(entries):
            yield f"Note: {seeds[0].lower()}{seeds[1:]}"
        if any(len(entry.runs) > 1 for entry in entries):
            yield (
                "Note: accuracies and scores of seeds are averaged; of the winner's seeds that keep --max-drop, that "
                "with the best score is promoted."
            )

    def register(self, winner: gates.Assessment, champion: RecordedCell | None) -> str:
        """Make the winner champion; gives a sentence on it. champion: what it was compared with."""
        run_id = winner.cell.run_id
        reasons = _reasons(winner, self.cells, champion, self.version)
        reasons |= {"train_time_note": self.train_time_note} if self.train_time_note else {}
        reasons[SHA256] = self.registry.exported_sha256(run_id)
        made = self.registry.promote(
            self.name,
            run_id,
            reasons=reasons,
            description=description.of_version(
                self.registry.result(run_id),
                winner.gates,
                candidates=len(self.cells),
                replaced=reasons["replaced"],
                cell=winner.cell,
            ),
            about=_about(self.name, winner.cell, self.registry),
            is_own=description.is_own,
        )
        replaced = self.version is not None and self.version.number != made.number
        former = f", version {self.version.number} is {PREVIOUS}" if self.version and replaced else ""
        return f"It is version {made.number} of {self.name} now, the {CHAMPION}{former}."


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
    ValueError where no cell passes the gates, with the nearest misses, or the cells cannot be compared.
    """
    candidates = Candidates.of(chosen, anew=anew, device=device)
    name, version, registry = candidates.name, candidates.version, candidates.registry
    decision = candidates.decide(limits)
    lines = [wrapped(line, width) for line in candidates.heading()]
    if dry_run:
        lines += [*_shortlists(candidates.cells, registry, width), ""]
    winner = decision.winner
    if winner is None:
        return "\n".join([*lines, _nobody(decision, version, name, registry, width)])
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


def _anchored(champion: RecordedCell, store: Store) -> RecordedCell:
    (found,) = anchored([champion], store.baselines(champion.dataset))
    return found


def _on_device(champion: RecordedCell, store: Store, registry: Registry, device: Device) -> RecordedCell:
    """The champion with its times on the device. Raises ValueError where it has none."""
    try:
        return timed([champion], device, store.baselines(champion.dataset)).cells[0]
    except ValueError as error:
        command = replace(device, place=registry.place(champion.run_id)).command([champion])
        raise ValueError(
            f"the champion, {champion.name} of run {champion.run_id}, must have figures for {device}, got none: "
            f"measure it with `{command} --filter \"attributes.run_id = '{champion.run_id}'\"`, or add --anew "
            "to replace it by the best candidate"
        ) from error


def _newest(cells: Sequence[RecordedCell]) -> list[RecordedCell]:
    """Of a cell that was run twice with one seed, the newest run, as in a comparison."""
    groups = by_conditions(cells).values()
    newest = {run.run_id for of_one in groups for entry in entries_of(of_one) for run in entry.runs}
    return [cell for cell in cells if cell.run_id in newest]


def _shortlists(cells: Sequence[RecordedCell], registry: Registry, width: float) -> Iterator[str]:
    for comparison in compare(cells):
        listed = shortlist(comparison, registry.predictions)
        if listed is not None:
            yield "\n" + shortlist_text.text(listed, width=width, more="a wider terminal, or `opscore compare --wide`")


def _unsure(winner: gates.Assessment, top: Entry | None, limits: gates.Limits, registry: Registry) -> str | None:
    """That the winner may lose more accuracy than allowed, with all its seeds, as in the shortlist, or with its own."""
    if top is None or any(run.run_id == winner.cell.run_id for run in top.runs):
        return None
    doubts = (
        doubt(runs, top.runs, limits.max_drop, registry.predictions) for runs in (winner.entry.runs, [winner.cell])
    )
    unsure = next(filter(None, doubts), "")
    return f"that it loses at most {points(limits.max_drop)} is {unsure}" if unsure else None


def _reasons(
    winner: gates.Assessment,
    cells: Sequence[RecordedCell],
    champion: RecordedCell | None,
    version: Version | None,
) -> dict[str, str]:
    """Why the winner was promoted, as tags of its version."""
    cell = winner.cell
    compared = {one.run_id for one in [*cells, *([champion] if champion else [])]} - {cell.run_id}
    return {
        "cell": cell.name,
        "seed": cell.seed,
        **{key: f"{value:.4f}" for key, value in cell.metrics.items() if key.startswith(metrics.SCORES)},
        "score_profile": comparability.profile(cell),
        **{f"gate/{gate.name}": f"passed: {gate.reason}" for gate in winner.gates},
        "replaced": _replaced(version, cell),
        "hardware": cell.hardware,
        **_runtime(cell),
        f"{PREFIX}compared_runs": _listed(sorted(compared)) or "none",
        f"{PREFIX}data_digest": cell.digest,
    }


def _replaced(version: Version | None, cell: RecordedCell) -> str:
    if version is None:
        return "nothing, it is the first"
    # Promoted once more, it still has the place of the version before it.
    own = version.tags.get("replaced") if version.run_id == cell.run_id else None
    return own or f"version {version.number}, run {version.run_id}"


def _remeasured(
    cells: Sequence[RecordedCell], champion: RecordedCell, version: Version, registry: Registry
) -> list[str]:
    """The run ids of the cells whose exported model is the champion's, byte by byte: a training that is repeated gives
    another one.
    """

    def is_same(cell: RecordedCell) -> bool:
        if cell.run_id == version.run_id or not version.sha256:
            return True
        try:
            return registry.exported_sha256(cell.run_id) == version.sha256
        except LostFilesError:
            return False

    return [cell.run_id for cell in cells if cell.fingerprint == champion.fingerprint and is_same(cell)]


def _runtime(cell: RecordedCell) -> dict[str, str]:
    """How it runs on the device that the promotion was for; empty without one."""
    one = cell.device
    return {"runtime": one.runtime, "threads": str(one.threads), "target": one.target} if one else {}


def _about(name: str, cell: RecordedCell, registry: Registry) -> str:
    """The registered model's description."""
    return description.of_model(name, cell.dataset, cell.test_shape[1:], registry.labels(cell.run_id))


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


class _Promote(arguments.WordCommand):
    """Reads `promote rollback` as `rollback`, of which it is the older form."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments. Raises MisuseError."""
        words = [word for before, word in pairwise(["", *args]) if before not in self.valued and word[:1] != "-"]
        if words[:1] == ["rollback"]:
            args.remove("rollback")
            return rollback.command.make_context(f"{info_name} rollback", args, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("promote", cls=_Promote, help=__doc__)
@selection.options
@selection.on_device
@arguments.setting(
    "--max-drop",
    metavar="FRACTION",
    default=f"{MAX_DROP:g}",
    show_default=True,
    help="Accuracy that may be lost to the most accurate candidate; 0.02 is two points.",
)
@arguments.setting(
    "--margin",
    metavar="FRACTION",
    default="0.01",
    show_default=True,
    help="Accuracy that may be lost to the champion, beyond doubt.",
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


def _nobody(decision: gates.Decision, version: Version | None, name: str, registry: Registry, width: float) -> str:
    nearest = _misses(decision.misses, registry, width) if decision.misses else ""
    if version is None or decision.champion is None or not decision.stands:
        raise ValueError(f"none of the candidates for {name} passes all gates, the nearest misses:\n{nearest}")
    deployed = f"{decision.champion.name}, seed {decision.champion.seed}, run {version.run_id}"
    standing = f"Nothing to do: version {version.number}, {deployed}, stays the champion."
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


def _listed(run_ids: Sequence[str]) -> str:
    """Run ids as one text, with the number of those that do not fit."""
    fitting = (TEXT_CHARACTERS - 40) // 33
    more = f" and {len(run_ids) - fitting} more" if len(run_ids) > fitting else ""
    return ",".join(run_ids[:fitting]) + more
