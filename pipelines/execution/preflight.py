"""What can be checked before anything is computed, and the images that the checks load."""

from __future__ import annotations

import json
import textwrap
from functools import cache
from typing import TYPE_CHECKING

from pipelines.cells.cell import describe
from pipelines.datasets.notes import description, resized
from pipelines.system import stopwatch

if TYPE_CHECKING:
    from pipelines.cells.cell import Cell
    from pipelines.datasets.base import Dataset, ImageData


_data: dict[str, ImageData] = {}


def loaded(dataset: Dataset) -> ImageData:
    """The dataset's images and labels. A process reads them once, and then describes them."""
    # A user's own may have a list among its settings, which has no hash.
    key = json.dumps(describe(dataset), sort_keys=True, default=repr)
    if key not in _data:
        with stopwatch.part("data"):
            _data[key] = dataset.load()
            _print_once(description(dataset.name, _data[key]))
    return _data[key]


@cache
def _print_once(text: str) -> None:
    if text:
        print(text, flush=True)


def digest_of(dataset: Dataset) -> str:
    """A hash over the content of the dataset's splits, for fingerprints."""
    return loaded(dataset).digest


def preflight(cell: Cell) -> None:
    """Raise ValueError or OSError where the cell, or one that it needs, cannot run."""
    # Not of the setting itself: cells that were recorded with it must still be read.
    if cell.training.optimizer == "sgd" and cell.training.learning_rate is None:
        raise ValueError(
            "training.learning_rate must be set with training.optimizer=sgd, as the networks' own rates are for Adam, "
            "got null: set for example training.learning_rate=0.01, and technique.learning_rate where a technique "
            "fine-tunes"
        )
    cell.technique.check_steps()
    cell.dataset.preflight()
    data = loaded(cell.dataset)
    shape = data.image_shape
    cell.model.preflight(shape)
    cell.model.check_classes(data.class_names)
    cell.dataset.check_shift(min(shape[:2]))
    own = (min(shape[:2]), cell.model.side)
    can_be_larger = getattr(cell.dataset, "image_size", None) is not None
    note = resized(*own, can_be_larger=can_be_larger, is_fixed=cell.model.input_size is None)
    _print_once("\n".join(textwrap.wrap(note, 79, subsequent_indent="  ")))
    for role, needed in cell.needs.items():
        if role == "source" or needed.source is not None:
            preflight(needed)
