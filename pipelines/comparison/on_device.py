"""Recorded cells with the times that they have on a device, so that everything that compares cells decides for it."""

from __future__ import annotations

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipelines.comparison.anchoring import retimed
from pipelines.comparison.baselines import baselines_of
from pipelines.comparison.budgets import keeps_budgets
from pipelines.comparison.groups import conditions
from pipelines.comparison.labels import settings_key
from pipelines.results.metrics import (
    RATIO_HIGH,
    RATIO_LOW,
)
from pipelines.results.on_device import (
    BEGAN,
    LITERT,
    REFERENCE,
    VERSION,
    Figures,
    OnDevice,
    figures,
    least,
    share_reference,
)
from pipelines.results.recorded_cell import BASELINE
from pipelines.system.checks import nearest
from pipelines.system.words import listed, number_of, some

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RecordedCell


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where and how cells shall run.

    target: the device's name. runtime: None for the fastest of each cell. threads: of the runtime. place: the options
    by which a command finds the cells.
    """

    target: str
    runtime: str | None = None
    threads: int = 1
    place: str = ""

    def __str__(self) -> str:
        """In words."""
        how = f"by {self.runtime}" if self.runtime else "each cell by its fastest runtime"
        return f"{self.target}, {how} with {number_of(self.threads, 'thread')}"

    @property
    def options(self) -> str:
        """The options of a command that decides by its times, with a blank before each."""
        runtime = f" --runtime {self.runtime}" if self.runtime else ""
        threads = f" --threads {self.threads}" if self.threads != 1 else ""
        return f" --target {shlex.quote(self.target)}{runtime}{threads}"

    def command(self, cells: Sequence[RecordedCell] = ()) -> str:
        """The command that measures cells so.

        cells: whose figures there for other numbers of threads it keeps: a newer session replaces those of an older.
        """
        runtimes = f" --runtimes {self.runtime}" if self.runtime not in (None, LITERT) else ""
        counts = {count for cell in cells for one in _on(cell, self.target) for count in one.threads} | {self.threads}
        threads = f" --threads {','.join(map(str, sorted(counts)))}" if counts != {1} else ""
        return f"opscore measure --target {shlex.quote(self.target)}{runtimes}{threads}{self.place}"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Cells with their times on a device. notes: what to know of them, and which are missing, a sentence each."""

    cells: tuple[RecordedCell, ...]
    notes: tuple[str, ...]


def timed(cells: Sequence[RecordedCell], device: Device, baselines: Sequence[RecordedCell] = ()) -> Timed:
    """The cells with times, ratios, scores and budgets as they are on the device.

    Cells that differ in their seed alone run on the same runtime. A runtime that does not give LiteRT's answers is not
    chosen. The ratio to the baseline is to the baseline on its own chosen runtime. Machine and settings of the cells'
    own measurements do not matter any more. Of a cell that was run more than once, one run counts (`_current`).

    baselines: of cells that are not among `cells` too. Raises ValueError where no cell has figures for the device.
    """
    known = {cell.run_id: _on(cell, device.target) for cell in (*baselines, *cells)}
    _check(cells, device, known)
    given, cells = cells, _current(cells, device, known)
    everything = {cell.run_id: cell for cell in (*_current(baselines, device, known), *cells)}
    chosen = _chosen(list(everything.values()), device, known)
    # Of a baseline that was recorded twice, perhaps only the older one was measured.
    bases = baselines_of(cells, [cell for cell in everything.values() if cell.run_id in chosen])
    pairs: list[tuple[RecordedCell, Figures, Figures]] = []
    missing: Counter[str] = Counter()
    for cell in cells:
        base = cell if cell.technique == BASELINE else bases.get(cell.run_id)
        own = chosen.get(cell.run_id)
        if own is None:
            missing[_why_missing(cell, device, known[cell.run_id], list(everything.values()))] += 1
        elif base is None:
            missing[f"the baseline has no figures there ({cell.name})"] += 1
        else:
            pairs.append((cell, own, chosen[base.run_id]))
    used = [one for _, *both in pairs for one in both]
    found = [_moved(cell, own, base, known[cell.run_id], device) for cell, own, base in pairs]
    if not found:
        raise ValueError(f"no cell can be compared on {device}: {'; '.join(missing)}")
    notes = _notes(found, device, missing, used)
    if outdated := _outdated(found, given):
        notes.append(
            f"Of {some([cell.name for cell in outdated], 1)} an older run counts, as "
            f"the newest has no figures there: `{device.command(given)}` adds them."
        )
    return Timed(cells=tuple(found), notes=tuple(notes))


def hint(cells: Sequence[RecordedCell]) -> str | None:
    """A sentence on the devices that cells were measured on; None where there is none."""
    found: dict[str, set[str]] = defaultdict(set)
    for cell in cells:
        for one in figures(cell.metrics):
            found[one.target].add(one.runtime)
    if not found:
        return None
    devices = listed([f"{target} ({', '.join(sorted(runtimes))})" for target, runtimes in sorted(found.items())])
    return f"`opscore measure` measured such cells on {devices}: --target {min(found)} decides by the times there."


def _on(cell: RecordedCell, target: str) -> list[Figures]:
    return [one for one in figures(cell.metrics, cell.on_devices) if one.target == target]


def _check(cells: Sequence[RecordedCell], device: Device, known: Mapping[str, Sequence[Figures]]) -> None:
    """Raise ValueError where target, runtime or threads are not those of any cell."""
    targets = sorted({one.target for cell in cells for one in figures(cell.metrics)})
    if not targets:
        raise ValueError(
            f"target must be a device on which cells were measured, got {device.target!r} and no figures of any device "
            f"on these cells: measure them with `{device.command()}`"
        )
    if device.target not in targets:
        raise ValueError(
            f"target must be one of {', '.join(targets)}, on which these cells were measured, got {device.target!r}: "
            f"set for example --target {nearest(device.target, targets) or targets[0]}"
        )
    found = [one for cell in cells for one in known[cell.run_id]]
    runtimes = sorted({one.runtime for one in found})
    if device.runtime is not None and device.runtime not in runtimes:
        raise ValueError(
            f"runtime must be one of {', '.join(runtimes)}, by which these cells were measured on {device.target}, got "
            f"{device.runtime!r}: set for example --runtime {nearest(device.runtime, runtimes) or runtimes[0]}"
        )
    threads = sorted({count for one in found if device.runtime in (None, one.runtime) for count in one.threads})
    if device.threads not in threads:
        given = ", ".join(map(str, threads)) or "none"
        raise ValueError(
            f"threads must be one of {given}, with which these cells were measured on {device.target}, got "
            f"{device.threads}: set for example --threads {threads[0] if threads else 1}"
        )


def _current(
    cells: Sequence[RecordedCell], device: Device, known: Mapping[str, Sequence[Figures]]
) -> list[RecordedCell]:
    """The cells without runs that a newer one takes the place of: the newest that has figures, else the newest."""
    found: dict[object, tuple[bool, float, str]] = {}
    for cell in cells:
        measured = any(_usable(one, device) for one in known[cell.run_id])
        rank = measured, cell.started, cell.run_id
        found[_key(cell)] = max(rank, found.get(_key(cell), rank))
    return [cell for cell in cells if found[_key(cell)][-1] == cell.run_id]


def _key(cell: RecordedCell) -> object:
    """What runs of one cell have in common, but for the machine and the settings of their own measurements."""
    scored = {name: value for name, value in conditions(cell).items() if name.startswith("score.")}
    # Other cells name a baseline by its fingerprint, in which the versions of libraries are too.
    named = cell.fingerprint if cell.technique == BASELINE else ""
    return settings_key(cell), cell.seed, frozenset(scored.items()), named


def _outdated(current: Sequence[RecordedCell], cells: Sequence[RecordedCell]) -> list[RecordedCell]:
    """Those of which a newer run, with another exported model, was not measured on the device."""
    newest = {_key(cell): cell for cell in sorted(cells, key=lambda one: one.started)}
    return [cell for cell in current if newest[_key(cell)].fingerprint != cell.fingerprint]


def _chosen(
    cells: Sequence[RecordedCell], device: Device, known: Mapping[str, Sequence[Figures]]
) -> dict[str, Figures]:
    """The figures of the runtime of each cell that has any, by run id."""
    groups: dict[frozenset[tuple[str, str]], dict[str, str]] = defaultdict(dict)
    alone: list[str] = []
    for cell in sorted(cells, key=lambda one: one.started):
        if any(_usable(one, device) for one in known[cell.run_id]):
            # A baseline of former libraries chooses for itself, and not for that of today.
            alone += filter(None, [groups[settings_key(cell)].get(cell.seed)])
            groups[settings_key(cell)][cell.seed] = cell.run_id
    found: dict[str, Figures] = {}
    for run_ids in (*(list(of_one.values()) for of_one in groups.values()), *([one] for one in alone)):
        by_runtime: dict[str, list[Figures]] = defaultdict(list)
        for run_id in run_ids:
            for one in known[run_id]:
                if _usable(one, device):
                    by_runtime[one.runtime].append(one)
        # Seeds of which one was measured by other runtimes than the others have their own fastest ones.
        common = {name: of_one for name, of_one in by_runtime.items() if len(of_one) == len(run_ids)}
        if common:
            found |= dict(zip(run_ids, common[_fastest(common, device.threads)], strict=True))
        else:
            for run_id in run_ids:
                own = {one.runtime: [one] for one in known[run_id] if _usable(one, device)}
                (found[run_id],) = own[_fastest(own, device.threads)]
    return found


def _fastest(by_runtime: Mapping[str, Sequence[Figures]], threads: int) -> str:
    """The runtime with the least mean time over seeds; LiteRT if it is as good as that."""
    # A seed may have a reference of its own, but ratios and milliseconds do not add up.
    by_ratio = all(share_reference(of_seed) for of_seed in zip(*by_runtime.values(), strict=True))
    times = {
        name: sum(one.compared(threads, by_ratio=by_ratio) for one in of_one) for name, of_one in by_runtime.items()
    }
    return least(times, key=lambda name: (name != LITERT, times[name]))


def _usable(one: Figures, device: Device) -> bool:
    return one.same_answers and device.runtime in (None, one.runtime) and device.threads in one.threads


def _relative(own: Figures, base: Figures, threads: int) -> tuple[float, float, float]:
    """The time over the baseline's, and the bounds of the 95% prediction interval.

    From the ratios to what their sessions had for reference, where that is the baseline by one runtime in both.
    Otherwise from the medians, whose intervals are wider.
    """
    if own is base:
        return 1.0, 1.0, 1.0
    over = own.ratio(threads)
    # Both are to the same file by the same runtime.
    if over is not None and own.tags[REFERENCE] == base.tags[REFERENCE]:
        return _quotient(over, base.ratio(threads) or (1.0, 1.0, 1.0))
    return _quotient(own.p50_ms(threads), base.p50_ms(threads))


def _quotient(one: tuple[float, float, float], other: tuple[float, float, float]) -> tuple[float, float, float]:
    """With an interval whose half width is the root of the sum of squares, on the log scale."""
    half = math.hypot(*(math.log(high / low) / 2 for _, low, high in (one, other)))
    value = one[0] / other[0]
    return value, value * math.exp(-half), value * math.exp(half)


def _moved(cell: RecordedCell, own: Figures, base: Figures, known: Sequence[Figures], device: Device) -> RecordedCell:
    """The cell with the times of the device in its metrics: the baseline's multiplied by the ratio, as in `anchoring`.

    The device may be busier in one minute, or session, than in another, which cancels in the ratio.
    """
    ratio, low, high = _relative(own, base, device.threads)
    compared = cell.technique != BASELINE
    test_ms = base.p50_ms(device.threads)[0] * ratio
    metrics = retimed(cell, test_ms=test_ms, ratio=ratio if compared else None)
    if compared:
        metrics |= {RATIO_LOW: low, RATIO_HIGH: high}
    times = {
        one.runtime: base.p50_ms(device.threads)[0] * _relative(one, base, device.threads)[0]
        for one in known
        if device.threads in one.threads
    }
    moved = replace(
        cell,
        metrics=metrics,
        # The delegate of another processor may take other operators.
        delegated=cell.delegated if _delegates_alike(cell, own) else "",
        hardware=device.target,
        params={name: value for name, value in cell.params.items() if not name.startswith("measurement.")},
        device=OnDevice(
            target=device.target,
            runtime=own.runtime,
            threads=device.threads,
            began=own.tags.get(BEGAN, ""),
            ran_on=cell.hardware,
            is_reliable=own.is_reliable(device.threads),
            agreement=own.agreement,
            times_ms=times,
        ),
    )
    return replace(moved, feasible=keeps_budgets(moved))


def _delegates_alike(cell: RecordedCell, own: Figures) -> bool:
    """Whether the delegate of the device's LiteRT runs as much of the model as that of the cell's own run."""
    names = ("delegate_partitions", "undelegated_operators")
    return all(own.metrics.get(name) in (None, cell.metrics.get(f"model/{name}")) for name in names)


def _why_missing(
    cell: RecordedCell, device: Device, known: Sequence[Figures], everything: Sequence[RecordedCell]
) -> str:
    own = [one for one in known if device.runtime in (None, one.runtime) and device.threads in one.threads]
    if any(not one.same_answers for one in own):
        changed = listed(sorted(one.runtime for one in own if not one.same_answers))
        return f"{changed} changes the answers of {cell.name}"
    return f"figures are missing: `{device.command(everything)}` adds them"


def _notes(
    cells: Sequence[RecordedCell], device: Device, missing: Mapping[str, int], used: Sequence[Figures]
) -> list[str]:
    runtimes = {one.runtime for one in used}
    runtime = f": {runtimes.pop()}" if len(runtimes) == 1 and device.runtime is None else ""
    notes = [f"Times by `opscore measure` on {device}{runtime}."]
    for why, count in missing.items():
        notes.append(f"{number_of(count, 'cell')} {'is' if count == 1 else 'are'} left out, as {why}.")
    sessions = len({one.tags.get(BEGAN, "") for one in used})
    versions: dict[str, set[str]] = defaultdict(set)
    for one in used:
        if VERSION in one.tags:
            versions[one.runtime].add(one.tags[VERSION])
    mixed = [listed(sorted(of_one)) for _, of_one in sorted(versions.items()) if len(of_one) > 1]
    if mixed:
        notes.append(
            f"The times are from different versions of a runtime ({'; '.join(mixed)}): measure all cells again in one "
            "session."
        )
    if sessions > 1:
        notes.append(
            f"The times are from {sessions} sessions, in which the load of the machine may differ: one session with "
            "all cells and runtimes compares best."
        )
    unreliable = [cell for cell in cells if cell.device and not cell.device.is_reliable]
    if unreliable:
        names = some([cell.name for cell in unreliable])
        notes.append(
            f"The times of {len(unreliable)} of {len(cells)} runs ({names}) are INVALID there, as the session was "
            "disturbed or too short. They count, but may differ in a repeat: measure them again with nothing else "
            "running."
        )
    return notes
