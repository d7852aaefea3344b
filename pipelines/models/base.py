"""The interface of every model: a flat Keras graph from raw pixels to logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines.system import checks, names

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class Model(ABC):
    """A network that can be built for any image shape and number of classes.

    name: used in tables and in MLflow; `default_name` if not given.
    input_size: side in pixels to which images are resized inside the graph; None keeps their size.
    onednn: whether to use TensorFlow's oneDNN kernels, which train these networks faster on a CPU
        (docs/maintainers/performance-training.md).
    """

    # Learning rates for Adam and batches of 64 images, from random and from pretrained weights.
    random_rate: ClassVar[float] = 1e-3
    pretrained_rate: ClassVar[float] = 1e-3
    # Whether training is faster in bfloat16 on a CPU that has instructions for it
    # (docs/maintainers/performance-training.md).
    gains_by_bfloat16: ClassVar[bool] = False

    # The name does not change a result.
    name: str = field(default="", metadata={"fingerprint": False})

    input_size: int | None
    onednn: bool

    def __post_init__(self) -> None:
        """Check the fields that all models share."""
        checks.flag("model.onednn", self.onednn)
        if self.input_size is not None:
            checks.integer("model.input_size", self.input_size, minimum=8)
        object.__setattr__(self, "name", names.resolved("model.name", self.name, self.default_name))

    @property
    def learning_rate(self) -> float:
        """The rate of a training that names none."""
        return self.pretrained_rate if self.pretrained else self.random_rate

    @property
    def pretrained(self) -> bool:
        """Whether the network starts from the weights of an earlier training."""
        return False

    @property
    def origin(self) -> tuple[str | Path | None, ...]:
        """Where its weights come from: words, and files whose content counts for the fingerprint."""
        return ()

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules of the user's whose code determines the network."""
        return ()

    @property
    def side(self) -> int | None:
        """Side in pixels of the images that the network works on; None for their own."""
        return self.input_size

    @property
    def trained(self) -> bool:
        """Whether its weights are taken as they are, so that the baseline trains nothing."""
        return False

    @property
    def trained_s(self) -> float | None:
        """Seconds of training before any cell of this model; None where nobody knows."""
        return 0.0

    @property
    def is_of_user(self) -> bool:
        """Whether its class is the user's, and none of opscore's."""
        return not type(self).__module__.startswith("pipelines.models.")

    @property
    def unproven(self) -> bool:
        """Whether techniques and the converter may meet layers that nobody has tried them on, as in a user's class."""
        return self.is_of_user

    @property
    def other_pixels(self) -> Mapping[str, Callable[[Any], Any]]:
        """Other values of `model.pixels`, each with the images (n, h, w, 3) that show the network what it would see."""
        return {}

    @property
    @abstractmethod
    def default_name(self) -> str:
        """The name of a model without `name`, for example `resnet50`."""

    @abstractmethod
    def preflight(self, image_shape: tuple[int, int, int]) -> None:
        """Raise ValueError, FileNotFoundError or ConnectionError where `build` would fail; no TensorFlow."""

    def check_classes(self, labels: Sequence[str]) -> None:  # noqa: B027 (most give any number of classes)
        """Raise ValueError where the network cannot give these classes; no TensorFlow."""

    def untrained(self) -> Model:
        """A model of the same architecture that is built without waiting for weights."""
        return self

    def register(self) -> None:  # noqa: B027 (most have layers of Keras only)
        """Make layers of its own known to tf_keras, to load checkpoints of this model."""

    def arrange(self, network: tf_keras.Model, labels: Sequence[str]) -> None:  # noqa: B027 (most learn the classes)
        """Put the answers of a network that `build` made into the order of the dataset's classes."""

    @abstractmethod
    def build(self, image_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
        """A flat functional graph: float32 (n, h, w, 3) with values 0..255 -> float32 logits (n, classes).

        The layers of the head are named `head_*`; all others are the backbone.
        """


def check_flat(model: tf_keras.Model) -> None:
    """Raise ValueError for a model inside the model, and for a layer that is called more than once."""
    import tf_keras

    calls = Counter(node.layer for nodes in model._nodes_by_depth.values() for node in nodes)
    for layer, times in calls.items():
        if isinstance(layer, tf_keras.Model):
            raise ValueError(
                f"{model.name} must be one flat graph, got the model {layer.name} inside it: call its layers one by one"
            )
        if times > 1:
            raise ValueError(
                f"{model.name} must call each layer once, got {times} calls of {layer.name}: make a layer for each call"
            )
