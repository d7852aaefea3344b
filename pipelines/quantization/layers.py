"""The layers of an exported float model that have a kernel, as quantization counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pipelines.litert.flatbuffer import named_operators, parse
from pipelines.quantization.weights import FILTERS, stored

# What the converter appends to a layer's name.
_OPERATIONS = {"Conv2D", "MatMul", "depthwise", "BiasAdd", "FusedBatchNormV3", "Relu", "Relu6"}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with a kernel that the file stores.

    place: among such layers, in the order of the operators, which quantization keeps. name: of the network's layer,
    unique. operator: such as `CONV_2D`. output: the name of its output tensor, by which TensorFlow Lite's quantizer
    and Model Explorer know it. weights: number of entries of its kernel.
    """

    place: int
    name: str
    operator: str
    output: str
    weights: int


def layers(flatbuffer: bytes) -> list[Layer]:
    """All layers with a kernel of a float32 model, in the order of its operators."""
    model = parse(flatbuffer)
    tensors = model.subgraphs[0].tensors
    found = [
        Layer(
            place=place,
            name=_name(tensors[one.inputs[1]].name.decode()),
            operator=operator,
            output=tensors[one.outputs[0]].name.decode(),
            weights=kernel.size,
        )
        for place, (operator, one) in enumerate(with_kernels(model))
        if (kernel := stored(model, tensors[one.inputs[1]])) is not None
    ]
    seen: Counter[str] = Counter()
    for number, layer in enumerate(found):
        seen[layer.name] += 1
        if seen[layer.name] > 1:
            found[number] = replace(layer, name=f"{layer.name}_{seen[layer.name]}")
    return found


def float_outputs(flatbuffer: bytes, places: Collection[int]) -> tuple[str, ...]:
    """Names of the outputs of all operators that are in float32 where these layers are.

    Operators without a kernel between layers, such as pooling, would round a float layer's activations to 8 bits after
    all. They stay in float32 where they take what such a layer gives, or give only to such layers.
    """
    model = parse(flatbuffer)
    graph, operators = model.subgraphs[0], [one for _, one in named_operators(model)]
    kernels = [one for _, one in with_kernels(model)]
    floats = {id(kernels[place]) for place in places}
    layered = {id(one) for one in kernels}
    made = {int(output): one for one in operators for output in one.outputs}
    users = {output: [one for one in operators if output in one.inputs] for output in made}

    def sources(one: Any) -> list[Any]:
        return [made[int(place)] for place in one.inputs if int(place) in made]

    def bare(one: Any) -> bool:
        return id(one) not in layered

    for one in operators:
        before = sources(one)
        # Past a sum of two branches, only the sum itself: else the trunk of a residual network would be in float.
        if bare(one) and any(id(source) in floats and (not bare(source) or len(before) == 1) for source in before):
            floats.add(id(one))
    for one in reversed(operators):
        after = [user for output in one.outputs for user in users[int(output)]]
        if bare(one) and after and all(id(user) in floats for user in after):
            floats.add(id(one))
    return tuple(graph.tensors[one.outputs[0]].name.decode() for one in operators if id(one) in floats)


def with_kernels(model: Any) -> Iterator[tuple[str, Any]]:
    """Name and `OperatorT` of all operators of a `ModelT` that take a kernel, in order."""
    return ((name, one) for name, one in named_operators(model) if name in FILTERS)


def _name(tensor: str) -> str:
    """`block1a_dwconv` of `net/block1a_bn/FusedBatchNormV3;net/block1a_dwconv/depthwise`."""
    *_, last = (part for part in tensor.split(";") if part)
    parts = [part for part in last.split("/") if part.rstrip("0123456789") not in _OPERATIONS]
    return parts[-1] if parts else tensor
