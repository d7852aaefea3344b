"""The line of output on images whose size is not that of the network's input."""

import pytest

from pipelines.datasets.notes import resized


@pytest.mark.parametrize(
    ("image_size", "input_size", "can_be_larger", "is_fixed", "advice"),
    [
        (48, 32, True, False, "the network sees 32x32 of 48x48 pixels: model.input_size=48 lets it see all of them"),
        (48, 32, True, True, "32x32 of 48x48 pixels: dataset.image_size=32 reads them as it takes them"),
        (48, 32, False, True, "the network sees 32x32 of 48x48 pixels each"),
        (64, 224, True, False, "images of 64x64 are enlarged: dataset.image_size=224 keeps their detail"),
        # CIFAR has no larger images.
        (32, 96, False, False, ""),
        (64, 64, True, False, ""),
        (64, None, True, False, ""),
    ],
)
def test_advice(image_size: int, input_size: int | None, can_be_larger: bool, is_fixed: bool, advice: str) -> None:
    found = resized(image_size, input_size, can_be_larger=can_be_larger, is_fixed=is_fixed)
    assert found.endswith(advice) and bool(found) == bool(advice)
