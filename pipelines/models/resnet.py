"""ResNet with 50 or 101 layers.

Source: He et al. 2016, arXiv:1512.03385; graph and weights of `tf_keras.applications`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pipelines.models.pretrained import (
    KERAS_URL,
    Archive,
    KerasApplication,
    blocks_as_identity,
    caffe_centred,
    rebuilt,
    swap_input_channels,
)
from pipelines.system import checks

if TYPE_CHECKING:
    import tf_keras

_MD5 = {50: "4d473c1dd8becc155b73f8504c6f6626", 101: "88cf7a10940856eca736dc7b7e228a21"}


@dataclass(frozen=True, kw_only=True)
class ResNet(KerasApplication):
    """Residual network of bottleneck blocks. depth: 50 or 101."""

    gains_by_bfloat16: ClassVar[bool] = True

    depth: int

    def __post_init__(self) -> None:
        checks.one_of("model.depth", self.depth, tuple(_MD5))
        super().__post_init__()

    @property
    def default_name(self) -> str:
        """`resnet50` or `resnet101`."""
        return f"resnet{self.depth}"

    @property
    def archive(self) -> Archive:
        """As in tf_keras/src/applications/resnet.py."""
        file = f"{self.default_name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
        return Archive(url=f"{KERAS_URL}/resnet/{file}", md5=_MD5[self.depth])

    def backbone(self, image_shape: tuple[int, int, int]) -> tf_keras.Model:
        """Feature map with 2048 channels at 1/32 of the size."""
        import tf_keras

        application = {50: tf_keras.applications.ResNet50, 101: tf_keras.applications.ResNet101}[self.depth]
        pixels = caffe_centred(self.pixels(image_shape))
        graph = application(include_top=False, weights=None, input_tensor=pixels)
        return rebuilt(graph, blocks_as_identity(graph))

    def adapt(self, backbone: tf_keras.Model) -> None:
        """Keras's weights expect BGR."""
        swap_input_channels(backbone.get_layer("conv1_conv"))
