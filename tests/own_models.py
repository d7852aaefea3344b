"""Models of a user's own that come trained, reached through `_target_`."""

from dataclasses import dataclass

from pipelines.models.small_cnn import SmallCNN


@dataclass(frozen=True, kw_only=True)
class Trained(SmallCNN):
    """Its weights are taken as they are. trained_for: seconds that their training took, None where nobody knows."""

    trained_for: float | None = None
    trained = True

    @property
    def trained_s(self) -> float | None:
        """As given."""
        return self.trained_for
