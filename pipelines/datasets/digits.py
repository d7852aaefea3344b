"""Handwritten digits from scikit-learn: real images that load in a second, without a download."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pipelines.datasets.arrays import ArrayDataset, Arrays
from pipelines.datasets.base import SplitDataset


@dataclass(frozen=True, kw_only=True)
class Digits(SplitDataset, ArrayDataset):
    """1,797 grey images of 8x8 pixels in ten classes, repeated over three channels, without a test split.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """

    default_name = "digits"

    def preflight(self) -> None:
        """Nothing can be missing: scikit-learn is a dependency."""

    def read_arrays(self) -> Arrays:
        """All images of scikit-learn's file."""
        # The file that `sklearn.datasets.load_digits` reads: importing scikit-learn takes more than a second.
        package = find_spec("sklearn")
        assert package is not None and package.origin is not None, "scikit-learn is a dependency"
        rows = np.loadtxt(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
        # A row holds an image, which counts ink in 0..16, and its label.
        grey = np.rint(rows[:, :-1].reshape(-1, 8, 8) * 255 / 16).astype(np.uint8)
        return Arrays(
            x_train=np.repeat(grey[..., None], 3, axis=-1),
            y_train=rows[:, -1].astype(np.int64),
            class_names=tuple("0123456789"),
            test_fraction=self.test_fraction,
        )
