"""MobileNetV2 at width 1.

Source: Sandler et al. 2018, arXiv:1801.04381; graph and weights of `tf_keras.applications`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.models.pretrained import KERAS_URL, Archive, KerasApplication, blocks_as_identity, rebuilt

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class MobileNetV2(KerasApplication):
    """Inverted residual blocks of depthwise convolutions, made for phones."""

    default_name = "mobilenet_v2"

    @property
    def archive(self) -> Archive:
        """As in tf_keras/src/applications/mobilenet_v2.py, which has no digest for it.

        Keras publishes one file for each of five sizes, and uses that of 224 for all other sizes.
        """
        file = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
        return Archive(url=f"{KERAS_URL}/mobilenet_v2/{file}", md5=None)

    def backbone(self, image_shape: tuple[int, int, int]) -> tf_keras.Model:
        """Feature map with 1280 channels at 1/32 of the size."""
        import tf_keras

        rescale = tf_keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="rescale")
        graph = tf_keras.applications.MobileNetV2(
            include_top=False, weights=None, input_tensor=rescale(self.pixels(image_shape))
        )
        return rebuilt(graph, blocks_as_identity(graph))
