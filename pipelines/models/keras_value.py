"""A tensor of the graph that is rebuilt from a Keras model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Value:
    """A tensor of the new graph.

    reverse: its channels are in the opposite order of those of the file's model. channel: the file's model takes this
    one alone.
    """

    tensor: Any
    reverse: bool = False
    channel: int | None = None
