"""Frozen records that are stored as JSON."""

import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

import numpy as np


def in_json(value: Any) -> str:
    """A document with NumPy's numbers and arrays as plain ones."""
    return json.dumps(value, indent=2, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"what is recorded must be numbers, texts, lists and dictionaries, got {type(value).__name__}")


class Record:
    """A frozen dataclass of plain values, tuples, dictionaries and other such dataclasses."""

    def text(self) -> str:
        """The record as JSON."""
        return in_json(asdict(self))  # type: ignore[call-overload]

    def save(self, path: Path) -> None:
        """Write the record as JSON; an interrupted write leaves nothing at `path`."""
        partial = path.with_suffix(".partial")
        partial.write_text(self.text())
        partial.replace(path)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` gave. Raises ValueError or TypeError for another format."""
        record = _restored(cls, json.loads(text))
        if not isinstance(record, cls):
            raise TypeError(f"{cls.__name__} must be an object in JSON, got {text[:50]!r}")
        return record

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote. Raises OSError, and ValueError or TypeError for another format."""
        return cls.parse(path.read_text())


def _restored(kind: Any, value: Any) -> Any:
    """A value from JSON as the type of its field: lists become tuples, dictionaries the dataclass of the field."""
    if isinstance(value, list):
        return tuple(value)
    record = next((one for one in (kind, *get_args(kind)) if is_dataclass(one)), None)
    if record is None or not isinstance(value, dict):
        return value
    kinds = get_type_hints(record)
    return record(**{name: _restored(kinds.get(name), field) for name, field in value.items()})  # type: ignore[operator]
