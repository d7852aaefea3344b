"""Which recorded cells can be compared: those with the same test images and the same score profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.results.recorded import RecordedCell


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

    Accuracies compare on the same test images, scores under the same exponents and budgets. Different hardware is
    accepted (`hardware_note`).
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
    by_profile = _groups(cells, profile)
    if len(by_profile) > 1:
        params_of = {key: next(iter(group)).params for key, group in by_profile.items()}
        differing = sorted(
            name
            for name in {name for params in params_of.values() for name in params if name.startswith("score.")}
            if len({params.get(name) for params in params_of.values()}) > 1
        )
        conditions = {
            key: " and ".join(f"params.`{name}` = '{params.get(name)}'" for name in differing)
            for key, params in params_of.items()
        }
        raise _mixed("were scored by different profiles", by_profile, conditions)


def profile(cell: RecordedCell) -> str:
    """The score's exponents and the budgets that are set, such as `accuracy=2 size=0.5`."""
    chosen = {name.removeprefix("score."): value for name, value in cell.params.items() if name.startswith("score.")}
    numbers = {name: float(value) for name, value in chosen.items() if name != "_target_" and value != "None"}
    return " ".join(f"{name}={number:g}" for name, number in sorted(numbers.items()))


def hardware_note(cells: Sequence[RecordedCell]) -> str | None:
    """A sentence if cells were measured on different hardware, which changes times and scores; else None."""
    machines = sorted({cell.hardware for cell in cells})
    if len(machines) < 2:
        return None
    return (
        f"measured on different hardware ({'; '.join(machines)}): accuracy and size compare, times and their part of "
        "the score do not"
    )


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
