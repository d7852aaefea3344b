"""Kernels of 4 bits in an 8-bit integer model.

Source of the range: Sakr et al. 2022, arXiv:2206.06501 (OCTAV), which clips where the error of clipping and that of
rounding are least together.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert.flatbuffer import packed, parse
from pipelines.quantization.layers import with_kernels
from pipelines.quantization.weights import FILTERS, constant, largest, scaled, store, symmetric

# Codes go from -7 to 7, so that a kernel stays symmetric.
MAX_INT4 = 7
# XNNPACK's kernels for 4 bits add up sixteen times the sum, in 32 bits; the rest is for the sum itself.
MAX_BIAS = 2**31 // 16 // 4
ALGORITHMS = ("octav", "minmax")
# Newton steps of OCTAV; ten are enough in the paper.
STEPS = 10


def with_four_bits(quantized: bytes, original: bytes, algorithms: Mapping[int, str], *, pack: bool = True) -> bytes:
    """An 8-bit integer model with 4-bit kernels in some layers.

    quantized: the model. original: of the same network in float32, which has the weights before rounding. algorithms:
    of `ALGORITHMS`, by the layers' `Layer.place`. pack: store two weights in a byte; else each in a byte of its own,
    which computes the same in the kernels for 8 bits, and is about as small when compressed.
    """
    from ai_edge_litert import schema_py_generated as schema

    model, source = parse(quantized), parse(original)
    graph, floats = model.subgraphs[0], source.subgraphs[0].tensors
    pairs = zip(with_kernels(model), with_kernels(source), strict=True)
    for place, ((name, one), (_, other)) in enumerate(pairs):
        if place not in algorithms:
            continue
        # A layer without a bias has the place -1, or none at all.
        weights, *biases = (constant(source, floats[index]) for index in other.inputs[1:] if index >= 0)
        kernel, *given = (copy(graph.tensors[index]) for index in one.inputs[1:] if index >= 0)
        input_scale = float(graph.tensors[one.inputs[0]].quantization.scale[0])
        scales, codes = quantized_kernel(
            weights, FILTERS[name], algorithms[place], biases=[each / input_scale for each in biases]
        )
        kernel.quantization = scaled(scales, FILTERS[name])
        if pack:
            store(model, kernel, nibbles(codes), schema.TensorType.INT4)
        else:
            store(model, kernel, codes.astype(np.int8), schema.TensorType.INT8)
        for bias, values in zip(given, biases, strict=True):
            bias_scales = (scales * input_scale).astype(np.float32)
            store(model, bias, np.rint(values / bias_scales).astype(np.int32), schema.TensorType.INT32)
            bias.quantization = scaled(bias_scales, 0)
        first = len(graph.tensors)
        graph.tensors.extend([kernel, *given])
        missing = [index for index in one.inputs[1:] if index < 0]
        one.inputs = np.array([one.inputs[0], *range(first, len(graph.tensors)), *missing], np.int32)
    _drop_unused(graph)
    return packed(model)


def quantized_kernel(
    values: npt.NDArray[np.float32], dimension: int, algorithm: str, *, biases: list[npt.NDArray[Any]] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Scales for each filter, (filters,), and codes from -7 to 7 in the kernel's shape.

    dimension: of the filters. biases: of each filter in units of the input's scale; they must fit into 32 bits with
    room to spare.
    """
    ranges = largest(values, dimension)
    if algorithm == "octav":
        filters = np.moveaxis(values, dimension, 0).reshape(values.shape[dimension], -1)
        ranges = _octav(abs(filters).astype(np.float64), ranges)
    for bias in biases or ():
        ranges = np.maximum(ranges, abs(bias).astype(np.float64) * MAX_INT4 / MAX_BIAS)
    return symmetric(values, dimension, ranges, MAX_INT4)


def nibbles(codes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
    """Two codes from -8 to 7 in a byte, the first in its lower half."""
    low = codes.astype(np.int8).reshape(-1).view(np.uint8) & np.uint8(15)
    flat = np.append(low, np.zeros(len(low) % 2, np.uint8))
    return np.asarray(flat[::2] | (flat[1::2] << np.uint8(4)), np.uint8)


def _octav(magnitudes: npt.NDArray[np.float64], ranges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where to clip each filter, at most at its range: (filters, weights) and (filters,) to (filters,)."""
    # The error of rounding within s to a step s/7 is s^2 / (12 x 7^2) a weight.
    rounding = 1 / (12 * MAX_INT4**2)
    clip = magnitudes.mean(axis=1)
    for _ in range(STEPS):
        outside = magnitudes > clip[:, np.newaxis]
        beyond = (magnitudes * outside).sum(axis=1)
        inside = magnitudes.shape[1] - outside.sum(axis=1)
        clip = beyond / np.maximum(rounding * inside + outside.sum(axis=1), np.finfo(float).tiny)
    return np.where(clip > 0, np.minimum(clip, ranges), ranges)


def _drop_unused(graph: Any) -> None:
    """Empty the tensors that no operator takes any more."""
    used = {int(place) for one in graph.operators for place in (*one.inputs, *one.outputs)}
    for place, tensor in enumerate(graph.tensors):
        if place not in used and place not in (*graph.inputs, *graph.outputs):
            tensor.buffer, tensor.quantization = 0, None
