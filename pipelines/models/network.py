"""The base class of all networks: input, head, checks, and loading of weights."""

from __future__ import annotations

import shlex
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines.models import checkpoint
from pipelines.models.base import Model, check_flat
from pipelines.models.keras_format import HDF5
from pipelines.system import checks
from pipelines.system.places import expanded

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class Network(Model):
    """A backbone, then average pooling, dropout and one dense layer that gives logits.

    smallest: side in pixels of the smallest image that the backbone accepts.
    sources: values of `weights` in addition to None: `imagenet` and suffixes of files.
    weights: `imagenet`, a file, or None for random initialisation. It never falls back silently.
    dropout: rate before the last layer, in [0, 1).
    """

    smallest: ClassVar[int] = 8
    sources: ClassVar[tuple[str, ...]] = (".keras",)

    # The fingerprint covers the content of a weights file instead of its path (pipelines.cells.plan).
    weights: str | None = field(metadata={"fingerprint": False})
    dropout: float

    def __post_init__(self) -> None:
        """Check the shared fields and the form of `weights`; `preflight` looks for files."""
        checks.fraction("model.dropout", self.dropout, zero=True)
        super().__post_init__()
        if self.weights is None or self.weights in self.sources:
            return
        if not isinstance(self.weights, str) or Path(self.weights).suffix not in self.sources:
            raise ValueError(self._weights_refusal())

    @property
    def pretrained(self) -> bool:
        """Whether `weights` names any."""
        return self.weights is not None

    @property
    def origin(self) -> tuple[str | Path | None, ...]:
        """`weights`."""
        file = self.weights is not None and self.weights != "imagenet"
        return (expanded(str(self.weights)) if file else self.weights,)

    def untrained(self) -> Network:
        """Without `weights`."""
        return replace(self, weights=None)

    def preflight(self, image_shape: tuple[int, int, int]) -> None:
        """Check the size of the images and that the weights exist; loads no TensorFlow."""
        self._check_shape(image_shape)
        if self.weights == "imagenet":
            self.check_imagenet()
        elif self.weights is not None:
            _check_file(self.weights)

    def build(self, image_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
        """A flat graph: float32 (n, h, w, 3) with values 0..255 -> float32 logits (n, classes).

        Raises ValueError that names the layer that makes the graph not flat, or that a weights file does not fit.
        """
        backbone = self.backbone(image_shape)
        model = self._with_head(backbone, classes)
        check_flat(model)
        if self.weights == "imagenet":
            self.load_imagenet(backbone)
        elif self.weights is not None and self.weights.endswith(".keras"):
            checkpoint.copy(expanded(self.weights), model)
        elif self.weights is not None:
            self.load_file(backbone, expanded(self.weights))
        return model

    @abstractmethod
    def backbone(self, image_shape: tuple[int, int, int]) -> tf_keras.Model:
        """A flat graph with random weights: float32 (n, h, w, 3), 0..255 -> feature map (n, h', w', c).

        Names of layers that hold weights are the same in every process: layers are transferred by name.
        """

    def check_imagenet(self) -> None:
        """Raise FileNotFoundError or ConnectionError where `load_imagenet` would fail; no TensorFlow."""
        raise NotImplementedError(f"{self.default_name} has no ImageNet weights")

    def load_imagenet(self, backbone: tf_keras.Model) -> None:
        """Put the ImageNet weights into `backbone`."""
        raise NotImplementedError(f"{self.default_name} has no ImageNet weights")

    def load_file(self, backbone: tf_keras.Model, path: Path) -> None:
        """Put the weights of a file that is no checkpoint of opscore into `backbone`."""
        raise NotImplementedError(f"{self.default_name} reads no file such as {path}")

    def pixels(self, image_shape: tuple[int, int, int]) -> Any:
        """The graph's input, resized to `input_size`: a Keras tensor (n, side, side, 3)."""
        import tf_keras

        image = tf_keras.layers.Input(image_shape, dtype="float32", name="image")
        if self.input_size is None or image_shape[:2] == (self.input_size, self.input_size):
            return image
        resize = tf_keras.layers.Resizing(
            self.input_size, self.input_size, interpolation="bilinear", dtype="float32", name="resize"
        )
        return resize(image)

    def _with_head(self, backbone: tf_keras.Model, classes: int) -> tf_keras.Model:
        import tf_keras

        x = tf_keras.layers.GlobalAveragePooling2D(name="head_pool")(backbone.output)
        if self.dropout > 0:
            x = tf_keras.layers.Dropout(self.dropout, name="head_dropout")(x)
        # Under a mixed precision policy the logits stay float32, or the loss overflows.
        x = tf_keras.layers.Dense(classes, dtype="float32", name=checkpoint.LOGITS)(x)
        return tf_keras.Model(backbone.input, x, name=self.default_name)

    def _check_shape(self, image_shape: tuple[int, int, int]) -> None:
        height, width, channels = image_shape
        if channels != 3:
            raise ValueError(f"images must have 3 channels, got {channels}: make the dataset give RGB")
        side = self.input_size if self.input_size is not None else min(height, width)
        if side < self.smallest:
            raise ValueError(
                f"model.input_size must be at least {self.smallest} for {self.default_name}, "
                + (f"images are {height}x{width}" if self.input_size is None else f"got {side}")
                + f": set model.input_size={self.smallest}"
            )

    def _weights_refusal(self) -> str:
        endings = " or ".join(source for source in self.sources if source.startswith("."))
        if "imagenet" not in self.sources:
            return (
                f"model.weights must be null or a {endings} file that opscore wrote, as {self.default_name} has no "
                f"pretrained weights, got {self.weights!r}: set model.weights=null"
            )
        return (
            f"model.weights must be imagenet, null or a {endings} file for {self.default_name}, "
            f"got {self.weights!r}: set model.weights=imagenet"
        )


def _check_file(weights: str) -> None:
    path = expanded(weights)
    if not path.is_file():
        kind = "the folder " if path.is_dir() else ""
        raise FileNotFoundError(
            f"model.weights must be a file that exists, got {kind}{path.absolute()}: correct the path or set "
            "model.weights=null"
        )
    if path.suffix == ".keras":
        sound = checkpoint.is_whole(path)
    else:
        with path.open("rb") as file:
            sound = file.read(len(HDF5)) == HDF5
    if not sound:
        raise ValueError(
            f"model.weights must be a complete {path.suffix} file, got {path.absolute()}, which is damaged "
            "or of another kind: fetch or write it again"
        )
    if path.suffix == ".keras" and not checkpoint.is_own(path):
        raise ValueError(
            f"model.weights must be a .keras file that opscore wrote, got {path.absolute()} of another program or with "
            f"code in it: set model=keras_file model.path={shlex.quote(str(path))} for its network"
        )
