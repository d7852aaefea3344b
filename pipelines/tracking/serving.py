"""The MLflow pyfunc that runs an exported model. It needs LiteRT and NumPy, not TensorFlow.

MLflow stores this file as the model ("models from code"), with the files of the package that it imports.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import LifoQueue
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import Schema, TensorSpec

from pipelines.litert.exported_model import ExportedModel

# The files of the package that are imported here.
NEEDED = (
    "__init__.py", "litert/__init__.py", "litert/exported_model.py", "litert/labels.py", "results/__init__.py",
    "results/files.py",
)  # fmt: skip


class UnfitImages(MlflowException):
    """Images that the exported model cannot classify; over HTTP the status 400 with one sentence."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, error_code=INVALID_PARAMETER_VALUE)

    def serialize_as_json(self) -> str:
        """The body of the response, without the pixels that MLflow's server adds to `message`."""
        return json.dumps({"error_code": self.error_code, "message": str(self)})


class ServedModel(PythonModel):
    """uint8 images (n, h, w, 3) -> `class` (n,) and `probabilities` (n, classes), in the order of the labels."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the exported model."""
        self.path = Path(context.artifacts["artifact"])
        first = ExportedModel(self.path)
        self.image_shape, self.names = first.image_shape, np.array(first.labels)
        # Model servers call from several threads. An interpreter serves one call at a time and releases Python's lock,
        # so there is one for each core, loaded when calls first overlap that much.
        self.idle: LifoQueue[ExportedModel | None] = LifoQueue()
        for _ in range((os.cpu_count() or 1) - 1):
            self.idle.put(None)
        self.idle.put(first)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> dict[str, np.ndarray]:
        """Classify images, whole numbers 0 to 255 of any integer dtype. Raises UnfitImages for anything else."""
        images = _images(model_input, self.image_shape)
        exported_model = self.idle.get()
        try:
            exported_model = exported_model or ExportedModel(self.path)
            logits = exported_model.logits(images)
        finally:
            self.idle.put(exported_model)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return {
            "class": self.names[logits.argmax(axis=1)],
            "probabilities": exponentials / exponentials.sum(axis=1, keepdims=True),
        }


def signature(image_shape: Sequence[int], classes: int) -> ModelSignature:
    """The input and the outputs of `ServedModel`, which MLflow shows and does not enforce.

    MLflow would cast JSON's numbers to uint8 before `predict` checks them: 0.5 to 0. It leaves the input to `predict`
    where a signature is marked as one of type hints.
    """
    images = TensorSpec(np.dtype(np.uint8), (-1, *image_shape), name="images")
    names = TensorSpec(np.dtype(np.str_), (-1,), name="class")
    probabilities = TensorSpec(np.dtype(np.float32), (-1, classes), name="probabilities")
    made = ModelSignature(inputs=Schema([images]), outputs=Schema([names, probabilities]))
    made._is_signature_from_type_hint = True
    return made


@contextmanager
def needed_code() -> Iterator[Path]:
    """A temporary copy of the files that this one needs, for MLflow's `code_paths`."""
    package = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / package.name
        for name in NEEDED:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(package / name, copy / name)
        yield copy


def _images(given: Any, image_shape: tuple[int, int, int]) -> np.ndarray:
    try:
        images = np.asarray(given)
    except ValueError:
        images, got = np.empty(0), "lists of unequal lengths"
    else:
        shown = isinstance(given, np.ndarray | list)
        got = f"{images.dtype} of shape {images.shape}" if shown else type(given).__name__
    if images.dtype.kind in "iu" and images.shape[1:] == image_shape and len(images):
        low, high = images.min(), images.max()
        if low >= 0 and high <= 255:
            return images.astype(np.uint8, copy=False)
        got = f"values from {low} to {high}"
    raise UnfitImages(
        f"images must be whole numbers 0 to 255 (uint8) of shape (n, {', '.join(map(str, image_shape))}) with n of at "
        f"least 1, got {got}: send RGB pixels, not scaled, in the size of the training images"
    )


mlflow.models.set_model(ServedModel())
