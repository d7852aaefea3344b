"""The interface of every model: a flat Keras graph from raw pixels to logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pipelines.system import checks, names

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class Model(ABC):
    """A network that can be built for any image shape and number of classes.

    name: used in tables and in MLflow; `default_name` if not given.
    weights: `imagenet`, a file, or None for random initialisation. It never falls back silently.
    input_size: side in pixels to which images are resized inside the graph; None keeps their size.
    dropout: rate before the last layer, in [0, 1).
    onednn: whether to use TensorFlow's oneDNN kernels, which train these networks faster on a CPU
        (docs/performance.md).
    """

    # Learning rates for Adam and batches of 64 images, from random and from pretrained weights.
    random_rate: ClassVar[float] = 1e-3
    pretrained_rate: ClassVar[float] = 1e-3

    # The name does not change a result.
    name: str = field(default="", metadata={"fingerprint": False})

    # The fingerprint covers the content of a weights file instead of its path (pipelines.cells.cell).
    weights: str | None = field(metadata={"fingerprint": False})
    input_size: int | None
    dropout: float
    onednn: bool

    def __post_init__(self) -> None:
        """Check the fields that all models share."""
        checks.fraction("model.dropout", self.dropout, zero=True)
        checks.flag("model.onednn", self.onednn)
        if self.input_size is not None:
            checks.integer("model.input_size", self.input_size, minimum=8)
        object.__setattr__(self, "name", names.resolved("model.name", self.name, self.default_name))

    @property
    def learning_rate(self) -> float:
        """The rate of a training that names none."""
        return self.random_rate if self.weights is None else self.pretrained_rate

    @property
    def trained(self) -> bool:
        """Whether its weights are taken as they are, so that the baseline trains nothing."""
        return False

    @property
    def trained_s(self) -> float | None:
        """Seconds of training before any cell of this model; None where nobody knows."""
        return 0.0

    @property
    @abstractmethod
    def default_name(self) -> str:
        """The name of a model without `name`, for example `resnet50`."""

    @abstractmethod
    def preflight(self, image_shape: tuple[int, int, int]) -> None:
        """Raise ValueError, FileNotFoundError or ConnectionError where `build` would fail; no TensorFlow."""

    @abstractmethod
    def build(self, image_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
        """A flat functional graph: float32 (n, h, w, 3) with values 0..255 -> float32 logits (n, classes).

        The layers of the head are named `head_*`; all others are the backbone.
        """
