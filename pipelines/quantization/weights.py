"""Models whose weights alone have fewer bits, and whose activations stay in float32."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert.flatbuffer import add_note, named_operators, packed, parse

# Smaller kernels gain nothing, and TensorFlow Lite's converter leaves them as well.
MIN_WEIGHTS = 1024
# The dimension of a kernel that has a scale for each entry, by operator.
FILTERS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
# The first version of an operator that takes int8 kernels with a scale for each filter beside float32 activations.
HYBRID = {"CONV_2D": 5, "DEPTHWISE_CONV_2D": 6, "FULLY_CONNECTED": 12}
MAX_INT8 = 127
# Metadata by which processors with float16 arithmetic may compute in it.
HALF_ALLOWED = "reduced_precision_support", b"fp16accfp32"
# The converter's, so that the scale of a filter of zeros is a number to divide by.
MIN_RANGE = 5e-7


def int8_weights(flatbuffer: bytes, operators: Collection[str]) -> bytes:
    """A float32 model with int8 kernels in the given kinds of operators: dynamic-range quantization.

    operators: names such as `CONV_2D`. Kernels have a scale for each filter; those of fewer than `MIN_WEIGHTS`
    weights stay as they are. LiteRT quantizes the inputs of such an operator for each image.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = parse(flatbuffer)
    tensors = model.subgraphs[0].tensors
    for name, one in named_operators(model):
        if name not in operators:
            continue
        tensor = tensors[one.inputs[1]]
        values = stored(model, tensor)
        if values is None or values.size < MIN_WEIGHTS:
            continue
        scales, codes = symmetric(values, FILTERS[name], largest(values, FILTERS[name]), MAX_INT8)
        store(model, tensor, codes.astype(np.int8), schema.TensorType.INT8)
        tensor.quantization = scaled(scales, FILTERS[name])
        if name == "FULLY_CONNECTED":
            one.builtinOptions.asymmetricQuantizeInputs = True
        code = model.operatorCodes[one.opcodeIndex]
        code.version = max(code.version, HYBRID[name])
    return packed(model)


def float16_weights(flatbuffer: bytes) -> bytes:
    """A float32 model that stores its constants of float32 in float16, and converts them when it is loaded.

    Those with a number that float16 does not hold stay.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = parse(flatbuffer)
    graph = model.subgraphs[0]
    widen = schema.OperatorCodeT()
    widen.builtinCode = widen.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    widen.version = 3
    operators, wide = [], {}
    for place, tensor in enumerate(list(graph.tensors)):
        values = stored(model, tensor)
        if values is None or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        narrow = schema.TensorT()
        narrow.name, narrow.shape = tensor.name + b"_float16", tensor.shape
        store(model, narrow, values.astype(np.float16), schema.TensorType.FLOAT16)
        wide[len(graph.tensors)] = place
        graph.tensors.append(narrow)
        tensor.buffer = 0
    for narrow_place, place in wide.items():
        one = schema.OperatorT()
        one.opcodeIndex = len(model.operatorCodes)
        one.inputs, one.outputs = np.array([narrow_place], np.int32), np.array([place], np.int32)
        operators.append(one)
    model.operatorCodes.append(widen)
    graph.operators = [*operators, *graph.operators]
    add_note(model, *HALF_ALLOWED)
    return packed(model)


def stored(model: Any, tensor: Any) -> npt.NDArray[np.float32] | None:
    """The values of a constant of float32; None for other tensors."""
    from ai_edge_litert import schema_py_generated as schema

    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or tensor.type != schema.TensorType.FLOAT32:
        return None
    return np.asarray(data, np.uint8).view(np.float32).reshape(tuple(tensor.shape))


def constant(model: Any, tensor: Any) -> npt.NDArray[np.float32]:
    """The values of a tensor that is a constant of float32."""
    values = stored(model, tensor)
    assert values is not None
    return values


def store(model: Any, tensor: Any, values: npt.NDArray[Any], kind: int) -> None:
    """Give a tensor a buffer of its own with these values. kind: of `TensorType`."""
    from ai_edge_litert import schema_py_generated as schema

    tensor.type, tensor.buffer = kind, len(model.buffers)
    model.buffers.append(schema.BufferT(data=np.ascontiguousarray(values).reshape(-1).view(np.uint8)))


def largest(values: npt.NDArray[np.float32], dimension: int) -> npt.NDArray[np.float64]:
    """The largest magnitude for each entry of the dimension."""
    others = tuple(one for one in range(values.ndim) if one != dimension)
    return np.asarray(abs(values).max(axis=others), np.float64)


def symmetric(
    values: npt.NDArray[np.float32], dimension: int, ranges: npt.NDArray[np.float64], most: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """Scales for each entry of the dimension, and the integer codes from -most to most.

    ranges: the magnitude for each entry whose code is `most`; larger ones are clipped.
    """
    scales = ranges.clip(min=MIN_RANGE) / most
    exact = values / scales.reshape([-1 if one == dimension else 1 for one in range(values.ndim)])
    # Halves round away from zero, as the converter has it.
    codes = np.copysign(np.floor(abs(exact) + 0.5), values).clip(-most, most)
    return scales.astype(np.float32), codes.astype(np.int32)


def scaled(scales: npt.NDArray[np.float32], dimension: int) -> Any:
    """A tensor's quantization with these scales and zero points of 0."""
    from ai_edge_litert import schema_py_generated as schema

    given = schema.QuantizationParametersT()
    given.scale, given.zeroPoint = scales, np.zeros(len(scales), np.int64)
    given.quantizedDimension = dimension
    return given
