"""The line of output on images whose size is not that of the network's input."""

import pytest

from pipelines.datasets.notes import resized


@pytest.mark.parametrize(
    ("image_size", "input_size", "can_be_larger", "advice"),
    [
        (48, 32, True, "the network sees 32x32 of 48x48 pixels: model.input_size=48 lets it see all of them"),
        (64, 224, True, "images of 64x64 are enlarged: dataset.image_size=224 keeps their detail"),
        # CIFAR has no larger images.
        (32, 96, False, ""),
        (64, 64, True, ""),
        (64, None, True, ""),
    ],
)
def test_advice(image_size: int, input_size: int | None, can_be_larger: bool, advice: str) -> None:
    assert resized(image_size, input_size, can_be_larger=can_be_larger).endswith(advice)
    assert bool(resized(image_size, input_size, can_be_larger=can_be_larger)) == bool(advice)
