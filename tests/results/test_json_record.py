from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pipelines.results.json_record import Record


@dataclass(frozen=True, kw_only=True)
class Part:
    n: int


@dataclass(frozen=True, kw_only=True)
class Whole(Record):
    part: Part
    other: Part | None
    values: tuple[dict[str, float], ...]
    free: dict[str, list[int]]


@pytest.mark.parametrize("other", [None, Part(n=2)])
def test_a_record_survives_json(other: Part | None) -> None:
    whole = Whole(part=Part(n=1), other=other, values=({"a": 1.0}, {}), free={"list": [1, 2]})
    assert Whole.parse(whole.text()) == whole


@pytest.mark.parametrize("text", ["[1]", "{}", '{"part": {"m": 1}}', "no JSON"])
def test_another_format_is_refused(text: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        Whole.parse(text)


@dataclass(frozen=True, kw_only=True)
class Figures(Record):
    values: dict[str, Any]


def test_numbers_of_numpy_are_plain_ones() -> None:
    """A technique of one's own computes with it."""
    found = Figures(values={"one": np.float32(0.5), "many": np.arange(3)})
    assert Figures.parse(found.text()).values == {"one": 0.5, "many": [0, 1, 2]}
    with pytest.raises(TypeError, match=r"what is recorded must be numbers, .* got object"):
        Figures(values={"one": object()}).text()
