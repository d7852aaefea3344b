"""Networks of `tf_keras.applications`, and their ImageNet weights."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from pipelines.models.imagenet import CAFFE_MEAN
from pipelines.models.network import Network
from pipelines.system.downloads import UNREACHABLE, check_reachable, download, keras_home

if TYPE_CHECKING:
    import tf_keras

KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications"
# Keras's names: conv2_block1_3_bn, block2b_project_bn, block_2_project_BN.
_LAST_NORMALIZATION = re.compile(r"(3_bn|project_bn|project_BN)$")
Edit: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A weights file that Keras publishes.

    md5: as in Keras's sources; None where they have none: the file is then used unchecked.
    """

    url: str
    md5: str | None

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rsplit("/", 1)[1]

    @property
    def cached(self) -> Path:
        """Its place on this machine: `models/` in the folder KERAS_HOME, else in ~/.keras."""
        return keras_home() / "models" / self.file

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is this one, by its digest or, if that is unknown, its name."""
        if not path.is_file():
            return False
        if self.md5 is None:
            return path.name == self.file
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == self.md5

    def check(self) -> None:
        """Raise ConnectionError unless the file is in the cache or its server answers."""
        if self.is_at(self.cached):
            return
        try:
            check_reachable(self.url)
        except UNREACHABLE as error:
            raise self._unavailable(error) from error

    def fetch(self) -> Path:
        """The file in the cache, downloaded if it is missing or damaged. Raises ConnectionError, or ValueError for a
        file of another digest.
        """
        if self.is_at(self.cached):
            return self.cached
        try:
            # Keras's get_file ignores KERAS_HOME, and waits without a limit for a server that stalls.
            return download(self.url, self.cached, md5=self.md5)
        except UNREACHABLE as error:
            raise self._unavailable(error) from error

    def _unavailable(self, reason: Exception) -> ConnectionError:
        return ConnectionError(
            f"model.weights=imagenet needs {self.url}, which does not answer ({reason}): put that file at "
            f"{self.cached}, or set model.weights=null"
        )


@dataclass(frozen=True, kw_only=True)
class KerasApplication(Network):
    """A network of `tf_keras.applications` without its top, under Keras's own layer names."""

    smallest: ClassVar[int] = 32
    sources: ClassVar[tuple[str, ...]] = ("imagenet", ".h5", ".keras")

    @property
    @abstractmethod
    def archive(self) -> Archive:
        """The file of ImageNet weights without the top."""

    def check_imagenet(self) -> None:
        """Raise ConnectionError unless the ImageNet weights are in Keras's cache or can be fetched."""
        self.archive.check()

    def load_imagenet(self, backbone: tf_keras.Model) -> None:
        """Fetch the ImageNet weights, or take them from Keras's cache."""
        self.load_file(backbone, self.archive.fetch())

    def load_file(self, backbone: tf_keras.Model, path: Path) -> None:
        """Load a weights file of `tf_keras.applications` made with `include_top=False`."""
        try:
            backbone.load_weights(str(path))
        except (ValueError, OSError) as error:
            raise ValueError(
                f"model.weights must be Keras's weights of {self.default_name} without its top, "
                f"got {path} ({error}): set model.weights to such a file or to null"
            ) from error
        self.adapt(backbone)

    def adapt(self, backbone: tf_keras.Model) -> None:
        """Adapt weights that were made for Keras's own preprocessing."""


def caffe_centred(pixels: Any) -> Any:
    """Subtract ImageNet's mean colour from RGB pixels.

    Keras's "caffe" preprocessing also swaps RGB to BGR, by operators that quantization does not support. Here the
    network stays in RGB, and `swap_input_channels` converts the weights instead.
    """
    import tf_keras

    offset = [-mean for mean in CAFFE_MEAN]
    return tf_keras.layers.Rescaling(scale=1.0, offset=offset, dtype="float32", name="rescale")(pixels)


def swap_input_channels(convolution: tf_keras.layers.Conv2D) -> None:
    """Convert the first convolution of a network from BGR to RGB input, or back.

    A convolution sums over its input channels, so reversing them in the kernel (h, w, 3, filters) equals
    reversing them in the image.
    """
    kernel, *rest = convolution.get_weights()
    convolution.set_weights([kernel[:, :, ::-1, :], *rest])


def rebuilt(model: tf_keras.Model, *edits: Callable[[dict[str, Any]], dict[str, Any] | None]) -> tf_keras.Model:
    """The same functional graph with edited layers and fresh weights.

    edits: each takes a layer's entry of the graph's configuration and returns the changed entry, or None to remove the
    layer (it must have one input). Only editing the configuration can rename, replace or remove layers of a finished
    graph without leaving traces of the old ones.
    """
    config = model.get_config()
    names: dict[str, str] = {}
    kept = []
    for entry in config["layers"]:
        old = entry["name"]
        sources = [names[tensor[0]] for node in entry["inbound_nodes"] for tensor in node]
        edited: dict[str, Any] | None = entry
        for edit in edits:
            edited = edit(edited) if edited is not None else None
        if edited is None:
            (names[old],) = sources
            continue
        edited["name"] = names[old] = edited["config"]["name"]
        edited["inbound_nodes"] = [
            [[names[tensor[0]], *tensor[1:]] for tensor in node] for node in edited["inbound_nodes"]
        ]
        kept.append(edited)
    config["layers"] = kept
    config["output_layers"] = [[names[output[0]], *output[1:]] for output in config["output_layers"]]
    return type(model).from_config(config)


def blocks_as_identity(model: tf_keras.Model) -> Edit:
    """An edit for `rebuilt`: with random weights, each residual block starts as the identity.

    The scale of the block's last normalization starts at 0. A network of dozens of blocks then learns as quickly as a
    short one from the first steps on. Source: Goyal et al. 2017, arXiv:1706.02677.
    """
    names = {layer.name for layer in model.layers}

    def edit(entry: dict[str, Any]) -> dict[str, Any]:
        block = _LAST_NORMALIZATION.sub("", entry["name"])
        if block != entry["name"] and f"{block}add" in names:
            entry["config"]["gamma_initializer"] = "zeros"
        return entry

    return edit
