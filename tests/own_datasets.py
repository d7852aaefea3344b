"""Datasets of a user's own, reached through `_target_`."""

import os
from dataclasses import dataclass

from pipelines.datasets.arrays import Arrays
from pipelines.datasets.digits import Digits


@dataclass(frozen=True, kw_only=True)
class Telling(Digits):
    """Digits; prints which cards and threads the process that reads them may use."""

    def read_arrays(self) -> Arrays:
        for name, variable in (("cards", "CUDA_VISIBLE_DEVICES"), ("threads", "TF_NUM_INTRAOP_THREADS")):
            print(f"{name}: {os.environ.get(variable)}", flush=True)
        return super().read_arrays()
