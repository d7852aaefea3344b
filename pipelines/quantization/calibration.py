"""The ranges of a model's activations over images, from which integer quantization takes its scales.

LiteRT's own calibrator computes every operator with its slower kernels. Here the activations are outputs of the graph,
so that XNNPACK computes them: a third of the time for the same ranges up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.litert.flatbuffer import packed, parse
from pipelines.system import machine

if TYPE_CHECKING:
    import numpy.typing as npt

    from pipelines.datasets.base import Split


def calibrated(flatbuffer: bytes, images: npt.NDArray[np.uint8]) -> bytes:
    """A float32 model that notes at each activation its least and its largest value over the images.

    images: uint8 (n, h, w, 3), at least one. The notes are where TensorFlow Lite's quantizer looks for them.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = parse(flatbuffer)
    activations = _activations(model)
    lowest, highest = _ranges(flatbuffer, activations, images)
    for activation, low, high in zip(activations, lowest, highest, strict=True):
        noted = schema.QuantizationParametersT()
        noted.min, noted.max = np.array([low], np.float32), np.array([high], np.float32)
        model.subgraphs[0].tensors[activation].quantization = noted
    return packed(model)


def chosen(split: Split, count: int) -> npt.NDArray[np.uint8]:
    """Evenly spaced images of a split, or all where it has fewer: uint8 (count, h, w, 3)."""
    places = np.linspace(0, len(split) - 1, num=min(count, len(split))).round().astype(int)
    return np.take(split.images, places, axis=0)


def _activations(model: Any) -> list[int]:
    """The places of all float32 tensors that depend on the image, its own first."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    made = [*graph.inputs, *(place for one in graph.operators for place in one.outputs)]
    return [int(place) for place in made if graph.tensors[place].type == schema.TensorType.FLOAT32]


def _ranges(
    flatbuffer: bytes, activations: list[int], images: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    from ai_edge_litert.interpreter import Interpreter

    model = parse(flatbuffer)
    source, *outputs = activations
    model.subgraphs[0].outputs = np.array(outputs, np.int32)
    interpreter = Interpreter(model_content=packed(model), num_threads=machine.cores())
    interpreter.allocate_tensors()
    lowest = np.full(len(activations), np.inf, np.float32)
    highest = -lowest
    for image in images:
        pixels = image[np.newaxis].astype(np.float32)
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        values = [pixels, *(interpreter.get_tensor(place) for place in outputs)]
        lowest = np.minimum(lowest, [one.min() for one in values])
        highest = np.maximum(highest, [one.max() for one in values])
    return lowest, highest
