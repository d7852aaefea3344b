"""VGG with 16 or 19 layers, without its fully connected top.

Source: Simonyan & Zisserman 2015, arXiv:1409.1556; graph and weights of `tf_keras.applications`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines.models.pretrained import (
    KERAS_URL,
    Archive,
    KerasApplication,
    caffe_centred,
    rebuilt,
    swap_input_channels,
)
from pipelines.system import checks

if TYPE_CHECKING:
    import tf_keras

_MD5 = {16: "6d6bbae143d832006294945121d1f1fc", 19: "253f8cb515780f3b799900260a226db6"}


@dataclass(frozen=True, kw_only=True)
class VGG(KerasApplication):
    """Plain stack of 3x3 convolutions; no batch normalization. depth: 16 or 19.

    Without normalization, random kernels must keep the scale of their input (He et al. 2015, arXiv:1502.01852): with
    Keras's initialization (Glorot) each layer halves the variance, and nothing is learnt. Adam's usual rate of 1e-3 is
    too high for it, above all with pretrained weights.
    """

    random_rate: ClassVar[float] = 3e-4
    pretrained_rate: ClassVar[float] = 1e-4
    gains_by_bfloat16: ClassVar[bool] = True

    depth: int

    def __post_init__(self) -> None:
        checks.one_of("model.depth", self.depth, tuple(_MD5))
        super().__post_init__()

    @property
    def default_name(self) -> str:
        """`vgg16` or `vgg19`."""
        return f"vgg{self.depth}"

    @property
    def archive(self) -> Archive:
        """As in tf_keras/src/applications/vgg16.py and vgg19.py."""
        file = f"{self.default_name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
        return Archive(url=f"{KERAS_URL}/{self.default_name}/{file}", md5=_MD5[self.depth])

    def backbone(self, image_shape: tuple[int, int, int]) -> tf_keras.Model:
        """Feature map with 512 channels at 1/32 of the size."""
        import tf_keras

        application = {16: tf_keras.applications.VGG16, 19: tf_keras.applications.VGG19}[self.depth]
        pixels = caffe_centred(self.pixels(image_shape))
        return rebuilt(application(include_top=False, weights=None, input_tensor=pixels), _to_he)

    def adapt(self, backbone: tf_keras.Model) -> None:
        """Keras's weights expect BGR."""
        swap_input_channels(backbone.get_layer("block1_conv1"))


def _to_he(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["class_name"] == "Conv2D":
        entry["config"]["kernel_initializer"] = "he_normal"
    return entry
