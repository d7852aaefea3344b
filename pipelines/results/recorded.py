"""A finished cell as the tracking store lists it."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.results.metrics import MAJORITY_P_VALUE, MAJORITY_SHARE
from pipelines.results.verdict import no_better_than_majority


@dataclass(frozen=True, kw_only=True)
class RecordedCell:
    """A finished cell as MLflow lists it, without its files.

    started: milliseconds since 1970. source: the cell that was learnt from as teacher or donor, empty for most.
    hardware: what it was measured on. digest, test_shape: of the test split, as MLflow keeps it, and training_digest,
    training_shape of the training split; shapes are (n, height, width, 3), all empty where nothing was logged.
    params: the configuration by dotted name. majority: the most frequent class of the test images, empty where the
    record is older than the test against it.
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

    @property
    def test_images(self) -> int:
        """How many images it was tested on; 0 where that was not logged."""
        return self.test_shape[0] if self.test_shape else 0

    @property
    def uninformed(self) -> str | None:
        """In words, that its accuracy is no better than one constant answer's; None where it is, or is not recorded."""
        return no_better_than_majority(
            self.metrics.get(MAJORITY_P_VALUE), self.metrics.get(MAJORITY_SHARE), self.majority
        )
