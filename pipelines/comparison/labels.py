"""The labels of cells in a comparison: their names, and the settings in which cells of one name differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.results.metrics import FILE_HASH

if TYPE_CHECKING:
    from pipelines.results.recorded import RecordedCell


def settings_of(cell: RecordedCell) -> dict[str, str]:
    """The configuration of a cell without its seed and without the names of its parts, which are in its own name.

    What all cells of a comparison have in common (`groups`) is left out, and so are parameters that `mlflow run` logs
    beside the configuration. A cell whose training time is stated later is the same cell, so that statement is left out
    too.
    """
    excluded = ("model.name", "dataset.name", "model.trained_s", "model.path")
    settings = {
        key: value
        for key, value in cell.params.items()
        if ("." in key or key == "deterministic")
        and not key.startswith(("measurement.", "score."))
        and not key.endswith(excluded)
    }
    # Its content tells a model's file, not its place; a few digits of the hash are enough to tell two apart.
    if FILE_HASH in settings:
        settings[FILE_HASH] = settings[FILE_HASH][:8]
    return settings | {"source": cell.source}


def images_of(cell: RecordedCell) -> dict[str, str]:
    """The digests of the images that a cell was trained and tested on; empty where they were not recorded."""
    return {"training-images": cell.training_digest[:8], "test-images": cell.digest[:8]}


def labelled(groups: Sequence[Mapping[str, str]], names: Sequence[str]) -> list[str]:
    """The cells' names, each with the settings in which cells of that name differ."""
    by_name: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for settings, name in zip(groups, names, strict=True):
        by_name[name].append(settings)
    differing = {name: _differing(alike) for name, alike in by_name.items()}
    return [
        " ".join(
            [
                name,
                *(f"{key}={differing[name][key][settings[key]]}" for key in sorted(settings.keys() & differing[name])),
            ]
        )
        for settings, name in zip(groups, names, strict=True)
    ]


def _differing(alike: Sequence[Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The settings in which cells of one name differ, with the short form of each value.

    The class of a part is among them only where nothing else differs.
    """
    values = {key: {settings.get(key, "") for settings in alike} for key in set().union(*alike)}
    several = {key: found for key, found in values.items() if len(found) > 1}
    chosen = {key: found for key, found in several.items() if not key.endswith("_target_")} or several
    return {key: _shortened(found) for key, found in chosen.items()}


def _shortened(values: Collection[str]) -> dict[str, str]:
    """Numbers of many digits with as few as tell them apart, by the number as it is written."""
    for digits in (3, 4, 6):
        short = {value: _rounded(value, digits) for value in values}
        if len(set(short.values())) == len(values):
            return short
    return {value: value for value in values}


def _rounded(value: str, digits: int) -> str:
    try:
        # No digest has a point.
        return f"{float(value):.{digits}g}" if "." in value else value
    except ValueError:
        return value
