"""The labels of cells in a comparison: their names, and the settings in which cells of one name differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from pipelines.results.metrics import FILE_HASH

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RecordedCell


# What determines nothing but which images there are, in every kind of dataset.
IMAGES = tuple(f"dataset.{name}" for name in ("path", "data_dir", "url", "sha256", "source_dir", "test_fraction"))
FINE_TUNING = "training.fine_tuning_epochs"


def in_words(settings: Mapping[str, str]) -> str:
    """As `technique.epochs=3 training.epochs=5`."""
    return " ".join(f"{key}={value}" for key, value in settings.items())


def in_short_words(settings: Mapping[str, str]) -> str:
    """`technique.epochs=3` as `epochs=3`, unless another setting has the same last part."""
    lasts = {key: key.rpartition(".")[2] for key in settings}
    count = Counter(lasts.values())
    return in_words({last if count[last] == 1 else key: settings[key] for key, last in lasts.items()})


def settings_of(cell: RecordedCell) -> dict[str, str]:
    """The configuration of a cell without its seed and without the names of its parts, which are in its own name.

    What all cells of a comparison have in common (`groups`) is left out, and so are parameters that `mlflow run` logs
    beside the configuration. A cell whose training time is stated later is the same cell, so that statement is left out
    too. So are places, and what chooses images, where the digests of the images are recorded; and what is in the
    technique's own epochs.
    """
    excluded = ("model.name", "dataset.name", "model.trained_s", "model.path")
    # A donor's images have no digest here.
    own = (FINE_TUNING, *(IMAGES if cell.digest and cell.training_digest else ()))
    settings = {
        key: value
        for key, value in cell.params.items()
        if ("." in key or key == "deterministic")
        and not key.startswith(("measurement.", "score."))
        and not key.endswith(excluded)
        and key not in own
    }
    # Its content tells a model's file, not its place; a few digits of the hash are enough to tell two apart.
    shortened = {key: value[:8] for key, value in settings.items() if key.endswith(FILE_HASH)}
    return settings | shortened | ({"source": cell.source} if cell.source else {})


def images_of(cell: RecordedCell) -> dict[str, str]:
    """The digests of the images that a cell was trained and tested on; empty where they were not recorded."""
    return {"training-images": cell.training_digest[:8], "test-images": cell.digest[:8]}


def settings_key(cell: RecordedCell) -> frozenset[tuple[str, str]]:
    """What cells have in common that differ in their seed alone: settings, images and name."""
    return frozenset((settings_of(cell) | images_of(cell) | {"name": kind_of(cell)}).items())


def kind_of(cell: RecordedCell) -> str:
    """The name that opscore gave it. A person may rename a run."""
    return f"{cell.model}-{cell.dataset}-{cell.technique}"


def differing_settings(
    groups: Sequence[Mapping[str, str]], names: Sequence[str], kinds: Sequence[str]
) -> list[dict[str, str]]:
    """Each cell's values of the settings in which cells of any one name or kind differ, by key, in few digits.

    A cell without a value where others have `training.epochs=3` has no such setting; it does not mean the default.
    """
    # Two that a person named alike differ, too.
    alike_in: dict[tuple[str, str], list[Mapping[str, str]]] = defaultdict(list)
    for settings, name, kind in zip(groups, names, kinds, strict=True):
        alike_in["kind", kind].append(settings)
        alike_in["name", name].append(settings)
        # The name of a teacher or donor tells what its settings would repeat.
        alike_in["source", f"{kind} from {settings.get('source', '')}"].append(settings)
    found = {(what, key) for (what, _), alike in alike_in.items() for key in _differing(alike)}
    keys = {key for what, key in found if what == "source" or ".source." not in key}
    short = {key: _shortened({settings[key] for settings in groups if key in settings}) for key in keys}
    return [{key: short[key][settings[key]] for key in sorted(settings.keys() & keys)} for settings in groups]


def _differing(alike: Sequence[Mapping[str, str]]) -> set[str]:
    """The settings in which cells of one name differ. The class of a part is one only where the others do not tell."""
    values = {key: {settings.get(key, "") for settings in alike} for key in set().union(*alike)}
    several = {key for key, found in values.items() if len(found) > 1}
    others = {key for key in several if not key.endswith("_target_")}

    def told_apart(by: set[str]) -> int:
        return len({tuple(settings.get(key) for key in sorted(by)) for settings in alike})

    return others if told_apart(others) == told_apart(several) else several


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
