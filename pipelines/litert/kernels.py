"""The kernels of an exported model, as stored in the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert.flatbuffer import named_operators, parse

# Operators with a kernel as their second input.
_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A kernel of an exported model.

    operator: `CONV_2D`, `DEPTHWISE_CONV_2D` or `FULLY_CONNECTED`. values: int8, float16 or float32, of shape
    (filters, h, w, channels), (1, h, w, channels) or (units, inputs); a stored 0 means zero, since kernels are
    quantized symmetrically. The converter multiplies the scale of a batch normalization into the channels before it.
    """

    name: str
    operator: str
    values: npt.NDArray[Any]


def kernels(exported_model: Path) -> list[Kernel]:
    """All kernels of the exported model's main graph, in the order of its operators."""
    from ai_edge_litert import schema_py_generated as schema

    model = parse(Path(exported_model).read_bytes())
    graph = model.subgraphs[0]
    types = {value: name.lower() for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    operators = named_operators(model)
    # float16 kernels pass through an operator that converts them to float32.
    widened = {operator.outputs[0]: operator.inputs[0] for name, operator in operators if name == "DEQUANTIZE"}
    found = []
    for name, operator in operators:
        if name not in _OPERATORS:
            continue
        tensor = graph.tensors[widened.get(operator.inputs[1], operator.inputs[1])]
        data = model.buffers[tensor.buffer].data
        if data is None:
            continue  # computed in the graph, not stored
        values = np.asarray(data, np.uint8).view(np.dtype(types[tensor.type])).reshape(tensor.shape)
        found.append(Kernel(name=tensor.name.decode(), operator=name, values=values))
    return found


def sparsity(exported_model: Path) -> float:
    """Fraction of exactly-zero entries in all kernels, in [0, 1]. Source: Zhu & Gupta 2017, arXiv:1710.01878."""
    values = [kernel.values for kernel in kernels(exported_model)]
    return 1 - sum(int(np.count_nonzero(one)) for one in values) / sum(one.size for one in values)
