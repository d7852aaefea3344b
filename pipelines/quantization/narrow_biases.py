"""Biases of 16-bit convolutions in 32 bits, where no sum can overflow them.

The converter writes 64 bits, for which LiteRT has only its reference kernels: `conv.cc`, `EvalQuantizedPerChannel16x8`.
With 32 bits it takes an optimized kernel, which sums in 32 bits.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert.flatbuffer import named_operators, packed, parse

# The place of the buffer that every model has for tensors without data.
EMPTY = 0
# Magnitudes.
MAX_INT16, MAX_INT32 = 2**15, 2**31 - 1
# Operators whose output has no negative value where their input has none.
KEEPING = ("MAX_POOL_2D", "PAD")


def with_narrow_biases(quantized: bytes) -> bytes:
    """A model of int16 activations and int8 weights in which CONV_2D has int32 biases wherever that is safe.

    Safe: no input whatsoever makes the sum of a filter leave 32 bits. The sums are then equal; their rounding to int16
    has finer multipliers. Depthwise convolutions keep 64 bits, as LiteRT refuses others. Without such a convolution,
    the same bytes come back.
    """
    model = parse(quantized)
    operators, tensors = named_operators(model), model.subgraphs[0].tensors
    not_negative: set[int] = set()
    # By the place of the wide tensor, which convolutions with equal biases share.
    narrow: dict[int, int] = {}
    for name, one in operators:
        if _ends_in_relu(one) or (name in KEEPING and one.inputs[0] in not_negative):
            not_negative.add(one.outputs[0])
        if name == "CONV_2D" and _is_safe(model, one, not_negative=one.inputs[0] in not_negative):
            source, kernel, bias = one.inputs
            if bias not in narrow:
                narrow[bias] = _add_narrow(model, bias)
            one.inputs = np.array([source, kernel, narrow[bias]], np.int32)
            one.builtinOptions.quantizedBiasType = tensors[narrow[bias]].type
    for unused in narrow.keys() - {int(index) for _, one in operators for index in one.inputs}:
        tensors[unused].buffer, tensors[unused].quantization = EMPTY, None
    return packed(model) if narrow else quantized


def largest_sum(weights: npt.NDArray[np.int8], biases: npt.NDArray[np.int64], *, not_negative: bool) -> int:
    """The largest magnitude that the sum of any filter over int16 inputs, its bias added, can have.

    weights: (filters, the rest). biases: (filters,). not_negative: whether no input is below 0.
    """
    positive = weights.clip(min=0).sum(axis=1, dtype=np.int64)
    negative = -weights.clip(max=0).sum(axis=1, dtype=np.int64)
    reach = np.maximum(positive, negative) if not_negative else positive + negative
    return int((MAX_INT16 * reach + abs(biases)).max())


def _is_safe(model: Any, convolution: Any, *, not_negative: bool) -> bool:
    """Whether a convolution has int16 inputs and an int64 bias that can do with 32 bits."""
    from ai_edge_litert import schema_py_generated as schema

    tensors = [model.subgraphs[0].tensors[index] for index in convolution.inputs]
    kinds = schema.TensorType.INT16, schema.TensorType.INT8, schema.TensorType.INT64
    if tuple(tensor.type for tensor in tensors) != kinds:
        return False
    kernel, bias = (model.buffers[tensor.buffer].data for tensor in tensors[1:])
    if kernel is None or bias is None:
        return False  # computed in the graph, not stored
    weights = kernel.view(np.int8).reshape(tensors[1].shape[0], -1)
    return largest_sum(weights, bias.view(np.int64), not_negative=not_negative) <= MAX_INT32


def _add_narrow(model: Any, wide: int) -> int:
    """Add a tensor with the values of another in 32 bits. Returns its place."""
    from ai_edge_litert import schema_py_generated as schema

    tensors = model.subgraphs[0].tensors
    bias = copy(tensors[wide])
    values = model.buffers[bias.buffer].data.view(np.int64).astype(np.int32)
    bias.type, bias.buffer = schema.TensorType.INT32, len(model.buffers)
    model.buffers.append(schema.BufferT(data=values.view(np.uint8)))
    tensors.append(bias)
    return len(tensors) - 1


def _ends_in_relu(operator: Any) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    kind = schema.ActivationFunctionType
    return getattr(operator.builtinOptions, "fusedActivationFunction", kind.NONE) in (kind.RELU, kind.RELU6)
