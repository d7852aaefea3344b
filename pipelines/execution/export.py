"""From a candidate to its exported model, a `.tflite` file with its labels inside."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.labels import append_labels, without_labels
from pipelines.models import patches
from pipelines.system import runtime
from pipelines.techniques.base import Rewritten

if TYPE_CHECKING:
    from pipelines.datasets.base import ImageData
    from pipelines.techniques.base import Candidate, FileTechnique


@runtime.without_greetings()
def export(candidate: Candidate, data: ImageData, path: Path) -> Rewritten:
    """Convert the candidate and write it to `path`, whole or not at all.

    data: gives the class names, in the order of the logits, and images to a technique that rewrites the file. The
    conversion has a fixed batch of 1, which is how exported models are served and measured.
    """
    flatbuffer, rewriting = _convert(candidate), candidate.rewriting
    rewritten = Rewritten(flatbuffer=flatbuffer)
    if rewriting:
        rewritten = rewriting.rewrite(flatbuffer, data, report=lambda _: None)
    _write(rewritten, data.class_names, path)
    return rewritten


@runtime.without_greetings()
def rewrite(
    technique: FileTechnique, exported_model: Path, data: ImageData, path: Path, *, report: Callable[[str], None]
) -> Rewritten:
    """Write to `path`, whole or not at all, what a technique makes of an exported model of float32.

    data, report: as the technique takes them; data also gives the class names.
    """
    rewritten = technique.rewrite(without_labels(exported_model), data, report=report)
    _write(rewritten, data.class_names, path)
    return rewritten


def _write(rewritten: Rewritten, labels: Sequence[str], path: Path) -> None:
    temporary = path.with_suffix(".partial")
    try:
        temporary.write_bytes(rewritten.flatbuffer)
        append_labels(temporary, labels, classes=ExportedModel(temporary).classes)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _convert(candidate: Candidate) -> bytes:
    import tensorflow as tf

    model = candidate.fake_quantized or candidate.model
    signature = tf.TensorSpec([1, *model.input_shape[1:]], tf.float32, name="images")
    forward = tf.function(lambda images: model(images, training=False), autograph=False)
    with patches.by_builtin_operators():
        concrete = forward.get_concrete_function(signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    # The default route writes a SavedModel and reads it back: three to ten times slower for the same bytes.
    converter.experimental_lower_to_saved_model = False
    if candidate.fake_quantized is not None:
        # It brings its ranges along.
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    with warnings.catch_warnings():
        # Says that statistics are missing although a fake-quantized network has them.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        return bytes(converter.convert())
