"""EfficientNet B0 to B7.

Source: Tan & Le 2019, arXiv:1905.11946; graph and weights of `tf_keras.applications`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.models.imagenet import DEVIATION
from pipelines.models.pretrained import Archive, KerasApplication, blocks_as_identity, rebuilt
from pipelines.system import checks

if TYPE_CHECKING:
    import tf_keras

_MD5 = (
    "50bc09e76180e00e4465e1a485ddc09d",
    "74c4e6b3e1f6a1eea24c589628592432",
    "111f8e2ac8aa800a7a99e3239f7bfb39",
    "af6d107764bb5b1abb91932881670226",
    "ebc24e6d6c33eaebbd558eafbeedf1ba",
    "38879255a25d3c92d5e44e04ae6cec6f",
    "9ecce42647a20130c1f39a5d4cb75743",
    "cbcfe4450ddf6f3ad90b1b398090fe4a",
)


@dataclass(frozen=True, kw_only=True)
class EfficientNet(KerasApplication):
    """Inverted residual blocks with squeeze and excitation, scaled by one number. variant: 0 to 7."""

    variant: int

    def __post_init__(self) -> None:
        checks.one_of("model.variant", self.variant, range(len(_MD5)))
        super().__post_init__()

    @property
    def default_name(self) -> str:
        """`efficientnet_b0` to `efficientnet_b7`."""
        return f"efficientnet_b{self.variant}"

    @property
    def archive(self) -> Archive:
        """As in tf_keras/src/applications/efficientnet.py."""
        file = f"efficientnetb{self.variant}_notop.h5"
        return Archive(url=f"https://storage.googleapis.com/keras-applications/{file}", md5=_MD5[self.variant])

    def backbone(self, image_shape: tuple[int, int, int]) -> tf_keras.Model:
        """Feature map with 1280 (B0) to 2560 (B7) channels at 1/32 of the size; Keras's preprocessing."""
        import tf_keras

        application = getattr(tf_keras.applications, f"EfficientNetB{self.variant}")
        graph = application(include_top=False, weights=None, input_tensor=self.pixels(image_shape))
        return rebuilt(graph, _name_preprocessing, blocks_as_identity(graph))

    def adapt(self, backbone: tf_keras.Model) -> None:
        """Divide by the deviation of ImageNet's colours once more, where the weights began as those of ImageNet.

        Their normalization divides by the root of the deviation only. Keras corrects this for `weights="imagenet"` by
        an operator that quantization does not know; the same factor on the stored variance gives the same numbers.
        See github.com/tensorflow/tensorflow/issues/49930.
        """
        normalize = backbone.get_layer("normalize")
        mean, variance, count = normalize.get_weights()
        # No training changes it; random weights have 1.
        if not np.allclose(variance, DEVIATION, rtol=1e-3):
            return
        normalize.set_weights([mean, variance * np.array(DEVIATION, variance.dtype), count])


def _name_preprocessing(entry: dict[str, Any]) -> dict[str, Any]:
    """Fixed names for layers that Keras numbers anew in each process."""
    fixed = {"Rescaling": "rescale", "Normalization": "normalize"}
    if entry["class_name"] in fixed:
        entry["config"]["name"] = fixed[entry["class_name"]]
    return entry
