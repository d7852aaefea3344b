"""Kernels of a quantized model put back to the floats that they were quantized from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipelines.litert.flatbuffer import named_operators, packed, parse


def with_float_kernels(quantized: bytes, original: Callable[[], bytes], *, operator: str) -> bytes:
    """A model of dynamic-range quantization in which the kernels of one kind of operator are in float32.

    quantized: the flatbuffer. original: gives the flatbuffer of the same network in float32; it is only called where
    there is an int8 kernel to replace. operator: such as `DEPTHWISE_CONV_2D`. Nothing else changes: without such a
    kernel, the same bytes come back. Raises ValueError where the two models differ in their operators.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = parse(quantized)
    tensors, operators = model.subgraphs[0].tensors, named_operators(model)

    def is_wanted(name: str, one: Any) -> bool:
        return name == operator and tensors[one.inputs[1]].type == schema.TensorType.INT8

    if not any(is_wanted(name, one) for name, one in operators):
        return quantized
    source = parse(original())
    originals = named_operators(source)
    if [name for name, _ in originals] != [name for name, _ in operators]:
        raise ValueError(
            f"the float model must have the operators of the quantized one, got {len(originals)} instead of "
            f"{len(operators)} or in another order: convert both from one network"
        )
    for (name, one), (_, other) in zip(operators, originals, strict=True):
        if is_wanted(name, one):
            kernel, given = tensors[one.inputs[1]], source.subgraphs[0].tensors[other.inputs[1]]
            kernel.type, kernel.quantization, kernel.buffer = given.type, None, len(model.buffers)
            model.buffers.append(source.buffers[given.buffer])
    return packed(model)
