"""A small network for small images: trains in seconds, for tests, demonstrations and tiny devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines.models.network import Network
from pipelines.system import checks

if TYPE_CHECKING:
    import tf_keras


@dataclass(frozen=True, kw_only=True)
class SmallCNN(Network):
    """Five convolutions, each with batch normalization and ReLU; 76 thousand parameters at width 32.

    width: filters of the first layer. From 32 on, every kernel but the first has more than 1,024 elements, the minimum
    for TFLite's dynamic-range quantization.
    """

    default_name = "small_cnn"
    gains_by_bfloat16: ClassVar[bool] = True
    width: int

    def __post_init__(self) -> None:
        checks.integer("model.width", self.width, minimum=1)
        super().__post_init__()

    def backbone(self, image_shape: tuple[int, int, int]) -> tf_keras.Model:
        """Feature map with 4 * width channels at 1/4 of the size."""
        import tf_keras

        pixels = self.pixels(image_shape)
        x = tf_keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="rescale")(pixels)
        x = _block(x, self.width, 3, "block1")
        x = _block(x, self.width, 3, "block2")
        x = tf_keras.layers.MaxPooling2D(name="pool1")(x)
        x = _block(x, 2 * self.width, 3, "block3")
        x = tf_keras.layers.MaxPooling2D(name="pool2")(x)
        x = _block(x, 2 * self.width, 3, "block4")
        x = _block(x, 4 * self.width, 1, "block5")
        return tf_keras.Model(tf_keras.utils.get_source_inputs(pixels), x, name="backbone")


def _block(x: Any, filters: int, kernel_size: int, name: str) -> Any:
    import tf_keras

    # No bias: the normalization that follows has one.
    x = tf_keras.layers.Conv2D(
        filters, kernel_size, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    # Keras's momentum of 0.99 suits long training; a few short epochs need faster moving averages.
    x = tf_keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return tf_keras.layers.ReLU(name=f"{name}_relu")(x)
