import os

# Keras 2 for tensorflow-model-optimization; both must stand before TensorFlow is imported anywhere.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from functools import cache

from pipelines.datasets.base import Dataset, ImageData


@cache
def small_data() -> tuple[ImageData, Dataset]:
    """300 real digits, and the dataset they come from."""
    from pipelines.datasets.digits import Digits

    dataset = Digits(limit_train=300, limit_test=100, validation_fraction=0.2)
    return dataset.load(), dataset
