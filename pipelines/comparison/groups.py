"""Recorded cells in groups that compare: the same test images, machine, settings of measurement and score."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.comparison import training_time
from pipelines.results.metrics import TRAIN_TIME
from pipelines.system.words import some

if TYPE_CHECKING:
    from pipelines.results.recorded_cell import RecordedCell

# Settings that change neither what is measured nor a score.
IRRELEVANT = ("measurement.timeout_s", "measurement._target_", "score._target_")
# So many values of a setting are listed.
MAX_VALUES = 4
Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Title:
    """What cells that compare have in common.

    dataset: its name, or the names where the same images have several. conditions: what sets the cells apart from other
    cells on it, if there are any.
    """

    dataset: str
    conditions: str = ""

    def __str__(self) -> str:
        return f"{self.dataset} ({self.conditions})" if self.conditions else self.dataset


def groups_of(cells: Iterable[RecordedCell]) -> dict[Title, list[RecordedCell]]:
    """Cells that compare with each other, by title, in its order."""
    groups = by_conditions(cells)
    datasets = {key: ", ".join(sorted({cell.dataset for cell in of_one})) for key, of_one in groups.items()}
    alike: dict[str, list[Key]] = defaultdict(list)
    for key, dataset in datasets.items():
        alike[dataset].append(key)
    titled = {
        Title(dataset=dataset, conditions=", ".join(_differences(key, keys)) if len(keys) > 1 else ""): groups[key]
        for dataset, keys in alike.items()
        for key in keys
    }
    return dict(sorted(titled.items(), key=lambda one: str(one[0])))


def by_conditions(cells: Iterable[RecordedCell]) -> dict[Key, list[RecordedCell]]:
    """Cells by their `conditions`, as sorted pairs."""
    groups: dict[Key, list[RecordedCell]] = defaultdict(list)
    for cell in cells:
        groups[tuple(sorted(conditions(cell).items()))].append(cell)
    return groups


def differing(keys: Iterable[Key]) -> set[str]:
    """The names of the conditions in which groups differ."""
    groups = [dict(key) for key in keys]
    return {name for name in set().union(*groups) if len({of_one.get(name) for of_one in groups}) > 1}


def conditions(cell: RecordedCell) -> dict[str, str]:
    """What must be equal for two cells to compare, by name: test images, machine, settings of measurement and score.

    Numbers are as text by their value: 2 and 2.0 are equal.
    """
    settings = {
        name: _by_value(value)
        for name, value in cell.params.items()
        if name.startswith(("measurement.", "score.")) and name not in IRRELEVANT and value != "None"
    }
    # Without a digest, nothing but the dataset's name is known of the images.
    return {
        "images": cell.digest or cell.dataset,
        "count": f"{cell.test_images:,}",
        "hardware": cell.hardware,
    } | settings


def _by_value(text: str) -> str:
    try:
        return f"{float(text):g}"
    except ValueError:
        return text


def training_note(cells: Sequence[RecordedCell]) -> str | None:
    """A sentence's end if cells were trained with different settings; says where a shorter training may decide."""
    settings: Mapping[str, set[str]] = defaultdict(set)
    for cell in cells:
        for name, value in cell.params.items():
            if name.startswith("training."):
                settings[name].add("null" if value == "None" else value)
    differing = {name: sorted(values, key=_in_order) for name, values in sorted(settings.items()) if len(values) > 1}
    if not differing:
        return None
    values = "; ".join(f"{name} {some(of_one, MAX_VALUES)}" for name, of_one in differing.items())
    counts = any(cell.exponents[TRAIN_TIME] for cell in cells) and training_time.note(cells) is None
    return f"trained with different settings ({values})" + (", and a shorter training counts as faster" * counts)


def _in_order(text: str) -> tuple[float, str]:
    """Numbers by their value, before other texts."""
    try:
        return float(text), ""
    except ValueError:
        return math.inf, text


def _differences(key: Key, keys: Sequence[Key]) -> list[str]:
    """In words, what a group has that not all groups have."""
    own, others, names = dict(key), [dict(one) for one in keys], differing(keys)
    words = {
        "count": "{} test images",
        "hardware": "on {}",
        "images": "images {:.8}",
    }
    # The number of images tells two sets apart better than a digest, if it does.
    counts = {(one["count"], one["images"]) for one in others}
    if len({count for count, _ in counts}) == len(counts):
        names.discard("images")
    return [
        words.get(name, f"{name}={{}}").format(own.get(name, "null"))
        for name in sorted(names, key=lambda one: (one not in words, one))
    ]
