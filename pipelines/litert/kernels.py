"""The kernels of an exported model, as stored in the file."""

from __future__ import annotations

import math
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

    operator: `CONV_2D`, `DEPTHWISE_CONV_2D` or `FULLY_CONNECTED`. stored: the type in the file, `int4`, `int8`,
    `float16` or `float32`. values: of that type, or int8 for int4, of shape (filters, h, w, channels),
    (1, h, w, channels) or (units, inputs); a stored 0 means zero, since the converter quantizes kernels symmetrically.
    That of TensorFlow 1 quantized them to `uint8`, with another zero. The converter multiplies the scale of a batch
    normalization into the channels before it.
    """

    name: str
    operator: str
    stored: str
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
        kind, packed = types[tensor.type], np.asarray(data, np.uint8)
        flat = _unpacked(packed, math.prod(tensor.shape)) if kind == "int4" else packed.view(np.dtype(kind))
        # A program that strips a file takes the names.
        label = (tensor.name or b"").decode()
        found.append(Kernel(name=label, operator=name, stored=kind, values=flat.reshape(tuple(tensor.shape))))
    return found


def _unpacked(data: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int8]:
    """4-bit integers of which two are in a byte, the first in its lower half."""
    both = np.stack([data << np.uint8(4), data], axis=1).reshape(-1)[:count]
    return both.view(np.int8) >> np.int8(4)


def sparsity(exported_model: Path) -> float:
    """Fraction of exactly-zero entries in all kernels, in [0, 1]. Source: Zhu & Gupta 2017, arXiv:1710.01878."""
    values = [kernel.values for kernel in kernels(exported_model)]
    return 1 - sum(int(np.count_nonzero(one)) for one in values) / sum(one.size for one in values)
