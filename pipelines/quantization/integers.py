"""Integer models by TensorFlow Lite's quantizers. They start from the float model: neither network nor tracing."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.quantization.calibration import PIXELS
from pipelines.quantization.narrow_biases import with_narrow_biases

if TYPE_CHECKING:
    import numpy.typing as npt


def quantized(calibrated_model: bytes, *, float_layers: Sequence[str] = (), float_ends: bool = False) -> bytes:
    """A float32 model in 8-bit integers throughout: uint8 in and out, a scale for each filter of a kernel.

    calibrated_model: the float32 model with the ranges of its activations, as by `calibrated`. float_layers: names of
    the outputs of operators that stay in float32. float_ends: float32 in and out, without the 8 bits of the logits.
    Source: Jacob et al. 2018, arXiv:1712.05877.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    ends = tf.float32 if float_ends else tf.uint8
    quantize = mlir_quantize(
        calibrated_model,
        input_data_type=ends,
        output_data_type=ends,
        denylisted_nodes=list(float_layers) or None,
    )
    return bytes(quantize)


def int16x8(flatbuffer: bytes, images: npt.NDArray[np.uint8]) -> bytes:
    """A float32 model with int16 activations and int8 weights; float32 in and out.

    images: uint8 (n, h, w, 3), which determine the ranges of the activations; that of the pixels is 0 to 255, whatever
    these have. Biases have 32 bits wherever they suffice. Raises ValueError where LiteRT does not load it.
    """
    import tensorflow as tf
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    def representative() -> Iterator[list[npt.NDArray[np.float32]]]:
        # The scale of the input is that of the brightest pixel.
        first = images[:1].copy()
        first[:, 0, 0] = PIXELS[1]
        for image in (*first, *images[1:]):
            yield [image[np.newaxis].astype(np.float32)]

    quantize = Calibrator(flatbuffer).calibrate_and_quantize(
        representative, tf.float32, tf.float32, allow_float=False, activations_type=tf.int16, bias_type=tf.int64
    )
    made = with_narrow_biases(bytes(quantize))
    _check_loads(made)
    return made


def _check_loads(flatbuffer: bytes) -> None:
    """Raise ValueError where LiteRT does not load the model.

    It ends its whole process where int16 operators, such as a subtraction, have scales that it cannot multiply by.
    """
    program = (
        "import sys; from ai_edge_litert.interpreter import Interpreter; Interpreter(sys.argv[1]).allocate_tensors()"
    )
    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(flatbuffer)
        file.flush()
        # -P: a file of the user's folder may have a library's name.
        command = [sys.executable, "-P", "-c", program, file.name]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode < 0:
        raise ValueError(
            f"LiteRT does not load this network with 16-bit activations ({signal.Signals(-done.returncode).name}): "
            "choose technique=quantize_int8"
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason is given"])[-1]
        raise ValueError(f"LiteRT must load the network with 16-bit activations, got {reason}")
