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


# The least and the largest value of an image.
PIXELS = 0, 255


def calibrated(flatbuffer: bytes, images: npt.NDArray[np.uint8]) -> bytes:
    """A float32 model that notes at each activation its least and its largest value over the images.

    images: uint8 (n, h, w, 3), at least one. Of the images themselves the range is 0 to 255, whatever these have.
    """
    places, lowest, highest = ranges(flatbuffer, images)
    low, high = lowest.min(axis=0), highest.max(axis=0)
    low[0], high[0] = PIXELS
    return with_ranges(flatbuffer, places, low, high)


def chosen(split: Split, count: int) -> npt.NDArray[np.uint8]:
    """Images of a split, as many of each class as its share, or all where it has fewer: uint8 (count, h, w, 3)."""
    by_class = np.argsort(split.labels, kind="stable")
    places = by_class[np.linspace(0, len(split) - 1, num=min(count, len(split))).round().astype(int)]
    return np.take(split.images, np.sort(places), axis=0)


def ranges(
    flatbuffer: bytes, images: npt.NDArray[np.uint8]
) -> tuple[list[int], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The places of all activations of a float32 model, the images' own first, with their least and their largest
    values for each image, float32 (n, activations)."""
    from ai_edge_litert.interpreter import Interpreter

    model = parse(flatbuffer)
    places = _activations(model)
    source, *outputs = places
    model.subgraphs[0].outputs = np.array(outputs, np.int32)
    interpreter = Interpreter(model_content=packed(model), num_threads=machine.cores())
    interpreter.allocate_tensors()
    lowest = np.empty((len(images), len(places)), np.float32)
    highest = np.empty_like(lowest)
    for low, high, image in zip(lowest, highest, images, strict=True):
        pixels = image[np.newaxis].astype(np.float32)
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        values = [pixels, *(interpreter.get_tensor(place) for place in outputs)]
        low[:], high[:] = [one.min() for one in values], [one.max() for one in values]
    return places, lowest, highest


def with_ranges(
    flatbuffer: bytes, places: list[int], lowest: npt.NDArray[np.float32], highest: npt.NDArray[np.float32]
) -> bytes:
    """The model with a range noted at each of these tensors, where TensorFlow Lite's quantizer looks for it."""
    from ai_edge_litert import schema_py_generated as schema

    model = parse(flatbuffer)
    for place, low, high in zip(places, lowest, highest, strict=True):
        noted = schema.QuantizationParametersT()
        noted.min, noted.max = np.array([low], np.float32), np.array([high], np.float32)
        model.subgraphs[0].tensors[place].quantization = noted
    return packed(model)


def _activations(model: Any) -> list[int]:
    """The places of all float32 tensors that depend on the image, its own first."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    made = [*graph.inputs, *(place for one in graph.operators for place in one.outputs)]
    return [int(place) for place in made if graph.tensors[place].type == schema.TensorType.FLOAT32]
