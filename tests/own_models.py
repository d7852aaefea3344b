"""Models of a user's own that come trained, reached through `_target_`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.models.small_cnn import SmallCNN


@dataclass(frozen=True, kw_only=True)
class Trained(SmallCNN):
    """Its weights are taken as they are. trained_for: seconds that their training took, None where nobody knows."""

    trained_for: float | None = None
    trained = True

    @property
    def trained_s(self) -> float | None:
        """As given."""
        return self.trained_for


@dataclass(frozen=True, kw_only=True)
class Unsaved(SmallCNN):
    """Has a layer that Keras can train and convert, but not save."""

    def backbone(self, image_shape: tuple[int, int, int]) -> Any:
        """As that of `SmallCNN`, with the layer at its end."""
        import tf_keras

        class Scaled(tf_keras.layers.Layer):  # type: ignore[misc]
            """A function of x. Keras cannot guess the configuration of a layer with such an argument."""

            def __init__(self, function: Callable[[Any], Any], **more: Any) -> None:
                super().__init__(**more)
                self.function = function

            def call(self, x: Any) -> Any:
                return self.function(x)

        before = super().backbone(image_shape)
        return tf_keras.Model(before.input, Scaled(lambda x: x * 0.5, name="scaled")(before.output))
