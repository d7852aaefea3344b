"""Which recorded cells can be compared: those with the same test images, machine, measurement and score profile."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.comparison.groups import by_conditions, conditions, differing
from pipelines.results.promotion import ANEW
from pipelines.system.words import listed, number_of

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RecordedCell


# Conditions that are written without their names.
_WORDS = ("images", "hardware")
_ONE_DEVICE = "measure all on one device and add --target"


def check_champion(champion: RecordedCell, cell: RecordedCell) -> None:
    """Raise ValueError if accuracy or score of the champion and a candidate cannot be compared, as of candidates."""
    names = [name for name in sorted(differing(by_conditions([champion, cell]))) if _what(name)]
    if not names:
        return
    what = listed(dict.fromkeys(map(_what, names)))
    own, other = conditions(champion), conditions(cell)
    values = [
        f"{'' if name in _WORDS else f'{name} '}{own.get(name, 'null')} and {other.get(name, 'null')}" for name in names
    ]
    # Another machine reuses the champion's cell.
    mend = (
        _ONE_DEVICE
        if "hardware" in names
        else "run its cell again with their settings, choose such candidates by --filter"
    )
    raise ValueError(
        f"the champion, {champion.name} of run {champion.run_id}, and the candidates were {what} "
        f"({'; '.join(values)}) and cannot be compared: {mend}, or {ANEW}"
    )


def check_comparable(
    cells: Sequence[RecordedCell], *, of_one_sweep: bool = False, chosen_by: str | None = None
) -> None:
    """Raise ValueError if accuracies or scores of the cells cannot be compared.

    of_one_sweep: whether they were chosen by their sweep. chosen_by: the filter, if they were chosen by one.

    Accuracies compare on the same test images, times on the same machine under the same settings of measurement, scores
    under the same exponents and budgets.
    """
    if not any(cell.digest for cell in cells):
        raise ValueError(
            f"the digest of the test images must be recorded for cells to be compared, got none for all {len(cells)}: "
            "run them again with resume=false"
        )
    groups = by_conditions(cells)
    if len(groups) == 1:
        return
    names = sorted(differing(groups))
    what = listed(dict.fromkeys(words for name in names if (words := _what(name))))
    # The largest first; four are enough to choose from.
    shown = [
        f"--filter {shlex.quote(' and '.join(filter(None, [chosen_by, own])))} ({number_of(len(group), 'cell')})"
        for group in sorted(groups.values(), key=lambda group: -len(group))
        if (own := _filter(names, group[0]))
    ][:4]
    mends = [f"choose some of them with {' or '.join(shown)}"] if shown else []
    mends += [] if of_one_sweep else ["choose a sweep with --sweep last, or --sweep and the id of its run"]
    mends += [_ONE_DEVICE] if "hardware" in names else []
    mends = mends or ["run them again with one of their profiles"]
    raise ValueError(f"the {len(cells)} cells were {what} and cannot be compared: {', or '.join(mends)}")


def _what(name: str) -> str:
    """How cells differ that do not have the same condition of this name (`groups.conditions`); empty for the number."""
    if name.startswith("measurement."):
        return "measured with different settings"
    if name.startswith("score."):
        return "scored by different profiles"
    return {
        "images": "tested on different images",
        "hardware": "measured on different machines",
    }.get(name, "")


def _filter(names: Sequence[str], cell: RecordedCell) -> str:
    """The condition, in MLflow's syntax, that chooses a cell's group by the names in which groups differ; or empty."""
    known = {
        "images": f'dataset.digest = "{cell.digest}"',
        "hardware": f'tags.hardware = "{cell.hardware}"',
    }
    # No filter finds runs without a parameter, as where their score is a class of one's own.
    if any(name not in known and name != "count" and name not in cell.params for name in names):
        return ""
    own = [known.get(name, f'params."{name}" = "{cell.params.get(name)}"') for name in names if name != "count"]
    return " and ".join(own)


def profile(cell: RecordedCell) -> str:
    """The score's exponents and the budgets that are set, such as `accuracy=2 size=0.5`."""
    chosen = {name: value for name, value in conditions(cell).items() if name.startswith("score.")}
    return " ".join(f"{name.removeprefix('score.')}={value}" for name, value in sorted(chosen.items()))
