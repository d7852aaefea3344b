"""The cells that may become a dataset's champion, and the registration of the one that does."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipelines.champion import comparability, description, gates
from pipelines.commands import arguments
from pipelines.commands.selection import Selection
from pipelines.comparison import training_time
from pipelines.comparison.anchoring import anchored
from pipelines.comparison.entries import entries_of, notes_of
from pipelines.comparison.groups import by_conditions, training_note
from pipelines.comparison.on_device import Device, timed
from pipelines.results import metrics, promotion
from pipelines.results.recorded_cell import RecordedCell
from pipelines.system.words import number_of
from pipelines.tracking.client import TEXT_CHARACTERS
from pipelines.tracking.registry import CHAMPION, PREVIOUS, SHA256, Registry, Version, model_name
from pipelines.tracking.run_files import LostFilesError
from pipelines.tracking.store import Store
from pipelines.tracking.tags import PREFIX


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
        champion = registry.champion_cell(version) if version and not anew else None
        found = chosen.timed(store, device)
        cells = _newest(found.cells)
        comparability.check_comparable(cells, of_one_sweep=chosen.sweep is not None, chosen_by=chosen.filter)
        notes: Sequence[str] = ()
        if champion:
            (champion,), notes = _timed(champion, registry, device)
        compared = training_time.comparable([*cells, champion] if champion else cells)
        return cls(
            name=name,
            cells=compared[: len(cells)],
            champion=compared[-1] if champion else None,
            version=version,
            registry=registry,
            device_notes=[*found.notes, *(f"Of the champion: {note}" for note in notes if note not in found.notes)],
            train_time_note=training_time.note(compared) or "",
        )

    def decide(self, limits: gates.Limits) -> gates.Decision:
        """Take them through the gates."""
        again = (
            _remeasured(self.cells, self.champion, self.version, self.registry)
            if self.champion and self.version
            else []
        )
        right_of = self.registry.right
        return gates.decide(self.cells, self.champion, remeasured=again, right_of=right_of, limits=limits)

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
        for note in notes_of(entries):
            yield f"Note: {note[0].lower()}{note[1:]}"
        if any(len(entry.runs) > 1 for entry in entries):
            yield (
                "Note: accuracies and scores of seeds are averaged; of the winner's seeds that keep --max-drop, that "
                "with the best score is promoted."
            )

    def register(self, winner: gates.Assessment, champion: RecordedCell | None) -> str:
        """Make the winner champion; gives a sentence on it. champion: what it was compared with."""
        run_id = winner.cell.run_id
        reasons = _reasons(winner, self.cells, champion, self.version)
        reasons |= {promotion.TRAIN_TIME_NOTE: self.train_time_note} if self.train_time_note else {}
        reasons[SHA256] = self.registry.exported_sha256(run_id)
        made = self.registry.promote(
            self.name,
            run_id,
            reasons=reasons,
            description=description.of_version(
                self.registry.result(run_id),
                winner.gates,
                candidates=len(self.cells),
                replaced=reasons[promotion.REPLACED],
                cell=winner.cell,
                note=self.train_time_note,
            ),
            about=_about(self.name, winner.cell, self.registry),
            is_own=description.is_own,
            instead_of=self.version.number if self.version else None,
        )
        replaced = self.version is not None and self.version.number != made.number
        former = f", version {self.version.number} is {PREVIOUS}" if self.version and replaced else ""
        return f"It is version {made.number} of {self.name} now, the {CHAMPION}{former}."


def _timed(
    champion: RecordedCell, registry: Registry, device: Device | None
) -> tuple[Sequence[RecordedCell], Sequence[str]]:
    """The champion alone, with its times by its baseline, on the device if there is one, and notes on those there.

    Raises ValueError where it has none there.
    """
    # It may be of another experiment than the candidates.
    home = Store.existing(registry.uri, registry.experiment(champion.run_id))
    baselines = home.baselines(champion.dataset)
    if device is None:
        return anchored([champion], baselines), ()
    condition = shlex.quote(f"attributes.run_id = '{champion.run_id}'")
    # The mends in sentences on it choose the champion.
    there = replace(device, place=f"{registry.place(champion.run_id)} --filter {condition}")
    try:
        found = timed([champion], there, baselines)
    except ValueError as error:
        raise ValueError(
            f"the champion, {champion.name} of run {champion.run_id}, must have figures for {device} ({error}), or "
            f"{promotion.ANEW}"
        ) from error
    return found.cells, found.notes


def _newest(cells: Sequence[RecordedCell]) -> list[RecordedCell]:
    """Of a cell that was run twice with one seed, the newest run, as in a comparison."""
    groups = by_conditions(cells).values()
    newest = {run.run_id for of_one in groups for entry in entries_of(of_one) for run in entry.runs}
    return [cell for cell in cells if cell.run_id in newest]


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
        # By it the testing time's term can be computed again.
        metrics.TEST_MS: f"{cell.metrics[metrics.TEST_MS]:.6g}",
        promotion.SCORE_PROFILE: comparability.profile(cell),
        **{f"{promotion.GATE}{gate.name}": f"passed: {gate.reason}" for gate in winner.gates},
        promotion.REPLACED: _replaced(version, cell),
        "hardware": cell.hardware,
        **_runtime(cell),
        f"{PREFIX}compared_runs": _listed(sorted(compared)) or "none",
        f"{PREFIX}data_digest": cell.digest,
    }


def _replaced(version: Version | None, cell: RecordedCell) -> str:
    if version is None:
        return "nothing, it is the first"
    # Promoted once more, it still has the place of the version before it.
    own = version.tags.get(promotion.REPLACED) if version.run_id == cell.run_id else None
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
    if one is None:
        return {}
    return {promotion.OF_RUNTIME: one.runtime, promotion.OF_THREADS: str(one.threads), promotion.OF_TARGET: one.target}


def _about(name: str, cell: RecordedCell, registry: Registry) -> str:
    """The registered model's description."""
    return description.of_model(name, cell.dataset, cell.test_shape[1:], registry.labels(cell.run_id))


def _listed(run_ids: Sequence[str]) -> str:
    """Run ids as one text, with the number of those that do not fit."""
    fitting = (TEXT_CHARACTERS - 40) // 33
    more = f" and {len(run_ids) - fitting} more" if len(run_ids) > fitting else ""
    return ",".join(run_ids[:fitting]) + more
