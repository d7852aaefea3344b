"""How the answers of a runtime compare with those of LiteRT."""

import numpy as np
import pytest

from pipelines.device.answers import compared


def test_one_number_is_compared_by_its_value() -> None:
    """A model with one output has no class that could differ."""
    first = np.array([[0.0], [0.5], [1.0], [0.1]], np.float32)
    found = compared(first + np.array([[0.0], [0.01], [0.0], [0.85]], np.float32), first, None)
    assert (found.same, found.changed) == (0.75, 0.25)
    assert found.largest == pytest.approx(0.85) and found.invalid


def test_class_may_change_by_rounding() -> None:
    first = np.array([[1.0, 0.99, 0.0], [1.0, 0.0, 0.5]], np.float32)
    own = np.array([[0.99, 1.0, 0.0], [0.0, 1.0, 0.5]], np.float32)
    found = compared(own, first, None)
    assert (found.same, found.changed) == (0.0, 0.5)
