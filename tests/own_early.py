"""A technique whose module loads TensorFlow, as one with a layer of its own at the top does."""

from dataclasses import dataclass

import tf_keras

from pipelines.techniques.baseline import Baseline


class Doubled(tf_keras.layers.Layer):  # type: ignore[misc]
    """Needs the class of tf_keras where it is defined."""


@dataclass(frozen=True, kw_only=True)
class Early(Baseline):
    """A baseline that may use it."""
