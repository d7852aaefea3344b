"""A finished cell as the tracking store lists it, without its files."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.results.metrics import MAJORITY_P_VALUE, MAJORITY_SHARE, TRAIN_S
from pipelines.results.records import Delegation
from pipelines.results.verdict import no_better_than_majority


@dataclass(frozen=True, kw_only=True)
class RecordedCell:
    """A finished cell as MLflow lists it.

    started: milliseconds since 1970. source: its teacher or donor cell, empty where it has none. hardware: the machine
    that measured it. digest, test_shape: of the test split, training_digest, training_shape: of the training split;
    shapes are (n, height, width, 3), all empty where they were not logged. params: the configuration by dotted name.
    majority: the most frequent class of the test images, empty where the record is older than the test against it.
    delegated: the `Delegation` as JSON, empty where the record is older than it.
    """

    run_id: str
    started: int
    name: str
    model: str
    dataset: str
    technique: str
    source: str
    seed: str
    feasible: str
    hardware: str
    fingerprint: str
    digest: str
    training_digest: str
    test_shape: tuple[int, ...]
    training_shape: tuple[int, ...]
    params: dict[str, str]
    metrics: dict[str, float]
    majority: str = ""
    delegated: str = ""

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
    def uninformed(self) -> str | None:
        """The finding that it is no better than one constant answer; None where it is better, or was not tested."""
        return no_better_than_majority(
            self.metrics.get(MAJORITY_P_VALUE), self.metrics.get(MAJORITY_SHARE), self.majority
        )
