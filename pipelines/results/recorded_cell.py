"""A finished cell as the tracking store lists it, without its files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipelines.results.cell_result import Delegation
from pipelines.results.metrics import (
    ACCURACY,
    OWN_TRAIN_S,
    SHARED_TRAIN_S,
    TRAIN_S,
    majority_of,
)
from pipelines.results.on_device import OnDevice
from pipelines.results.score import BUDGETS, CRITERIA, GOALS
from pipelines.results.verdict import no_better_than_majority

# The technique of a cell with which others are compared.
BASELINE = "baseline"


@dataclass(frozen=True, kw_only=True)
class RecordedCell:
    """A finished cell as MLflow lists it.

    started: milliseconds since 1970. source: its teacher or donor cell, empty where it has none. hardware: the machine
    that measured it. digest, test_shape: of the test split, training_digest, training_shape: of the training split;
    shapes are (n, height, width, 3), all empty where they were not logged. params: the configuration by dotted name.
    baseline: the fingerprint of its baseline, empty for a baseline. code: `Plan.code`, empty where it was not recorded.
    majority: the most frequent class of the test images. delegated: the `Delegation` as JSON. on_devices: tags of
    `opscore measure` (`results.on_device`). trained_on: the machines of all training that led to its exported model,
    with `; ` between them. litert: the version of LiteRT that measured it. Both are empty where they were not recorded.
    device: whose times are in `metrics`; None for those of the cell's own run.
    """

    run_id: str
    started: int
    name: str
    model: str
    dataset: str
    technique: str
    source: str
    seed: str
    feasible: bool
    hardware: str
    fingerprint: str
    digest: str
    training_digest: str
    test_shape: tuple[int, ...]
    training_shape: tuple[int, ...]
    params: dict[str, str]
    metrics: dict[str, float]
    baseline: str = ""
    code: str = ""
    majority: str = ""
    delegated: str = ""
    on_devices: Mapping[str, str] = field(default_factory=dict)
    trained_on: str = ""
    litert: str = ""
    device: OnDevice | None = None

    def setting(self, name: str) -> str | None:
        """A value of its configuration by dotted name, as text; None where it is null or was not recorded."""
        # As MLflow keeps it.
        return None if (text := self.params.get(name)) == "None" else text

    @property
    def exponents(self) -> dict[str, float]:
        """The exponents of its score by criterion."""
        return {name: float(self.params[f"score.{name}"]) for name in CRITERIA}

    @property
    def limits(self) -> dict[str, float]:
        """The budgets and goals that its score profile sets, by name."""
        given = {name: self.setting(f"score.{name}") for name in (*BUDGETS, *GOALS)}
        return {name: float(text) for name, text in given.items() if text is not None}

    @property
    def accuracy(self) -> float:
        """The fraction of test images that it gets right."""
        return self.metrics[ACCURACY]

    @property
    def test_images(self) -> int:
        """The number of test images; 0 where it was not logged."""
        return self.test_shape[0] if self.test_shape else 0

    @property
    def delegation(self) -> Delegation | None:
        """Which part of the exported model LiteRT's accelerated delegate runs; None where it is unknown."""
        return Delegation.parse(self.delegated) if self.delegated else None

    @property
    def train_unknown(self) -> bool:
        """Whether the time of all training that led to its exported model is unknown."""
        return TRAIN_S not in self.metrics

    @property
    def training_machines(self) -> str:
        """Those of its training; where they are unknown, the machine of its own run, which usually trained it."""
        return self.trained_on or (self.device.ran_on if self.device else self.hardware)

    @property
    def trainings(self) -> tuple[float, ...]:
        """Seconds of the trainings that led to its exported model: of its baseline, of others before it, and its own.

        Empty where a part is unknown. Cells that started from one training have the same seconds of it.
        """
        if self.train_unknown:
            return ()
        total, own = self.metrics[TRAIN_S], self.metrics.get(OWN_TRAIN_S, 0.0)
        shared = self.metrics.get(SHARED_TRAIN_S, 0.0)
        return tuple(part for part in (round(shared, 6), round(total - own - shared, 6), own) if part > 0)

    @property
    def uninformed(self) -> str | None:
        """The finding that it is no better than one constant answer; None where it is better, or was not tested."""
        return no_better_than_majority(majority_of(self.metrics, self.majority))


# Reads from the store which test images a cell gets right: bool (n,). Raises StoreError where its files are lost.
RightOf = Callable[[RecordedCell], npt.NDArray[np.bool_]]
