"""From a candidate to its exported model, a `.tflite` file with its labels inside."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.litert.exported_model import append_labels
from pipelines.litert.float_kernels import with_float_kernels
from pipelines.litert.narrow_biases import with_narrow_biases
from pipelines.system import runtime
from pipelines.techniques.base import Conversion

if TYPE_CHECKING:
    from pipelines.datasets.base import Images
    from pipelines.techniques.base import Candidate


@runtime.without_greetings()
def export(candidate: Candidate, *, training_images: Images, labels: Sequence[str], path: Path) -> None:
    """Convert the candidate and write it to `path`, whole or not at all.

    training_images: uint8 (n, h, w, 3), from which calibration takes evenly spaced ones. labels: class names in the
    order of the logits. The conversion has a fixed batch of 1, which is how exported models are served and measured.
    """
    conversion = candidate.conversion
    flatbuffer = _convert(candidate, conversion, _calibration(training_images, conversion.calibration_images))
    if conversion.float_depthwise:
        flatbuffer = with_float_kernels(
            flatbuffer, lambda: _convert(candidate, Conversion(), ()), operator="DEPTHWISE_CONV_2D"
        )
    if conversion.quantization == "int16x8":
        flatbuffer = with_narrow_biases(flatbuffer)
    temporary = path.with_suffix(".partial")
    try:
        temporary.write_bytes(flatbuffer)
        append_labels(temporary, labels)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _convert(candidate: Candidate, conversion: Conversion, calibration: Images | tuple[()]) -> bytes:
    import tensorflow as tf

    model = candidate.fake_quantized or candidate.model
    signature = tf.TensorSpec([1, *model.input_shape[1:]], tf.float32, name="images")
    forward = tf.function(lambda images: model(images, training=False), autograph=False)
    concrete = forward.get_concrete_function(signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], model)
    # The default route writes a SavedModel and reads it back: three to ten times slower for the same bytes.
    converter.experimental_lower_to_saved_model = False
    _configure(converter, conversion, calibration)
    with warnings.catch_warnings():
        # Says that statistics are missing although the representative dataset gives them.
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        return bytes(converter.convert())


def _configure(converter: Any, conversion: Conversion, calibration: Images | tuple[()]) -> None:
    import tensorflow as tf

    if conversion.quantization == "float32":
        return

    def representative() -> Iterator[list[np.ndarray]]:
        for image in calibration:
            yield [image[None].astype(np.float32)]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    match conversion.quantization:
        case "float16":
            converter.target_spec.supported_types = [tf.float16]
        case "int8":
            # A network with emulated quantization brings its ranges along.
            if len(calibration):
                converter.representative_dataset = representative
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        case "int16x8":
            converter.representative_dataset = representative
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            ]


def _calibration(images: Images, count: int) -> Images:
    chosen = np.linspace(0, len(images) - 1, num=min(count, len(images))).round().astype(int)
    return np.take(images, chosen, axis=0)
