"""The MLflow pyfunc that runs an artifact. It needs LiteRT and NumPy, not TensorFlow.

MLflow stores this file as the model ("models from code"), with the package beside it.
"""

import threading
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import Schema, TensorSpec

from pipelines.measure.litert import Artifact


class ArtifactModel(PythonModel):
    """uint8 images (n, h, w, 3) -> `class` (n,) and `probabilities` (n, classes), classes in the artifact's order."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the artifact once."""
        self.artifact = Artifact(Path(context.artifacts["artifact"]))
        # An interpreter serves one call at a time, and model servers call from several threads.
        self.lock = threading.Lock()

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> dict[str, np.ndarray]:
        """Classify images. Raises ValueError where they are not uint8 of the artifact's shape."""
        images = _images(model_input, self.artifact.image_shape)
        with self.lock:
            logits = self.artifact.logits(images)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        names = np.array(self.artifact.labels)
        return {
            "class": names[logits.argmax(axis=1)],
            "probabilities": exponentials / exponentials.sum(axis=1, keepdims=True),
        }


def signature(image_shape: tuple[int, int, int], classes: int) -> ModelSignature:
    """What `ArtifactModel` takes and gives."""
    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *image_shape))]),
        outputs=Schema(
            [
                TensorSpec(np.dtype(np.str_), (-1,), name="class"),
                TensorSpec(np.dtype(np.float32), (-1, classes), name="probabilities"),
            ]
        ),
    )


def _images(given: Any, image_shape: tuple[int, int, int]) -> np.ndarray:
    images = np.asarray(given)
    if images.dtype != np.uint8 or images.shape[1:] != image_shape or not len(images):
        raise ValueError(
            f"images must be uint8 of shape (n, {', '.join(map(str, image_shape))}) with n of at least 1, got "
            f"{images.dtype} of shape {images.shape}: send RGB pixels 0..255 in the size of the training images"
        )
    return images


mlflow.models.set_model(ArtifactModel())
