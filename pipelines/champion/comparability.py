"""Which recorded cells can be compared: those with the same test images, machine, measurement and score profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipelines.comparison.groups import IRRELEVANT
from pipelines.results.metrics import CHANCE

if TYPE_CHECKING:
    from pipelines.results.recorded import RecordedCell


# The condition of cells that this version has timed.
NEW = f"metrics.`{CHANCE}` >= 0"


def check_champion(champion: RecordedCell, cell: RecordedCell) -> None:
    """Raise ValueError if the champion cannot be compared with the candidates."""
    for what, own, other in (
        ("tested on other images", champion.digest, cell.digest),
        ("scored by another profile", profile(champion), profile(cell)),
    ):
        if own != other:
            raise ValueError(
                f"the champion, {champion.name} of run {champion.run_id}, was {what} than the candidates ({own} and "
                f"{other}): run its cell again with their settings, choose candidates with its settings by filter=, or "
                "add --anew to the command to replace it by the best candidate"
            )


def check_comparable(cells: Sequence[RecordedCell]) -> None:
    """Raise ValueError if accuracies or scores of the cells cannot be compared.

    Accuracies compare on the same test images, times on the same machine under the same settings of measurement, scores
    under the same exponents and budgets.
    """
    by_digest = _groups(cells, lambda cell: cell.digest)
    if len(by_digest) > 1:
        conditions = {digest: f"dataset.digest = '{digest}'" for digest in by_digest}
        raise _mixed("were tested on different images", by_digest, conditions)
    if "" in by_digest:
        raise ValueError(
            f"the digest of the test images must be recorded for cells to be compared, got none for all {len(cells)}: "
            "run them again with resume=false"
        )
    by_hardware = _groups(cells, lambda cell: cell.hardware)
    if len(by_hardware) > 1:
        conditions = {hardware: f"tags.hardware = '{hardware}'" for hardware in by_hardware}
        raise _mixed("were measured on different machines", by_hardware, conditions)
    by_method = _groups(cells, lambda cell: NEW if cell.is_in_bursts else "")
    if len(by_method) > 1:
        raise _mixed("were timed in two ways, by an older version and by this one,", by_method, {NEW: NEW})
    for what, prefix in (
        ("measured with different settings", "measurement."),
        ("scored by different profiles", "score."),
    ):
        by_settings = _groups(cells, partial(_settings, prefix=prefix))
        if len(by_settings) > 1:
            raise _mixed(f"were {what}", by_settings, _filters(by_settings, prefix))


def profile(cell: RecordedCell) -> str:
    """The score's exponents and the budgets that are set, such as `accuracy=2 size=0.5`."""
    return _settings(cell, prefix="score.")


def hardware_note(cells: Sequence[RecordedCell]) -> str | None:
    """A sentence if cells were measured on different hardware, which changes times and scores; else None."""
    machines = sorted({cell.hardware for cell in cells})
    if len(machines) < 2:
        return None
    return (
        f"measured on different hardware ({'; '.join(machines)}): accuracy and size compare, times and their part of "
        "the score do not"
    )


def _settings(cell: RecordedCell, *, prefix: str) -> str:
    """The settings of a group that are set and matter, such as `accuracy=2 size=0.5`."""
    chosen = {
        name.removeprefix(prefix): float(value)
        for name, value in cell.params.items()
        if name.startswith(prefix) and name not in IRRELEVANT and value != "None"
    }
    return " ".join(f"{name}={number:g}" for name, number in sorted(chosen.items()))


def _filters(groups: dict[str, list[RecordedCell]], prefix: str) -> dict[str, str]:
    """For each group the condition that chooses it by the settings in which groups differ."""
    params_of = {key: group[0].params for key, group in groups.items()}
    differing = sorted(
        name
        for name in {name for params in params_of.values() for name in params if name.startswith(prefix)}
        if name not in IRRELEVANT and len({params.get(name) for params in params_of.values()}) > 1
    )
    return {
        key: " and ".join(f"params.`{name}` = '{params.get(name)}'" for name in differing)
        for key, params in params_of.items()
    }


def _groups(cells: Sequence[RecordedCell], key: Callable[[RecordedCell], str]) -> dict[str, list[RecordedCell]]:
    """Cells by their `key`, the largest group first."""
    groups: dict[str, list[RecordedCell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def _mixed(what: str, groups: dict[str, list[RecordedCell]], conditions: dict[str, str]) -> ValueError:
    # A run without a digest has no such filter. Four groups are enough to choose from.
    shown = [f'filter="{conditions[key]}" ({len(group)} cells)' for key, group in groups.items() if key][:4]
    return ValueError(
        f"the {sum(map(len, groups.values()))} cells {what} and cannot be compared: choose some of them with "
        f"{' or '.join(shown)}, or with sweep=last, or sweep= and the id of a sweep's run"
    )
