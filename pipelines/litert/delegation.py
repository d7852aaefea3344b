"""Which part of an exported model LiteRT computes in its accelerated delegate, XNNPACK.

LiteRT hands the operators that XNNPACK has kernels for to it, in as few connected pieces as possible ("partitions"),
and computes the others with its own kernels. Source: tensorflow/lite/delegates/xnnpack/README.md.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.litert.exported_model import ExportedModel
from pipelines.results.cell_result import Delegation
from pipelines.system import runtime

# How LiteRT names the node that stands for one partition.
_PARTITION = "DELEGATE"


def delegation(exported_model: Path) -> Delegation:
    """The partitions, and the operators outside of them, as this machine's LiteRT runs the exported model.

    Takes about as long as loading the model once. Raises ValueError as ExportedModel does.
    """
    # LiteRT prints dozens of lines where `CompiledModel.is_fully_accelerated` is asked, and it names no operator.
    with runtime.without_greetings():
        return _delegation(ExportedModel(exported_model)._interpreter)


def _delegation(interpreter: Any) -> Delegation:
    """Of an interpreter with allocated tensors."""
    sources = {int(end["index"]) for end in interpreter.get_input_details()}
    targets = {int(end["index"]) for end in interpreter.get_output_details()}
    executed = _executed(interpreter._get_ops_details(), targets)
    own = [node for node in executed if node["op_name"] != _PARTITION and not _at_an_end(node, sources, targets)]
    return Delegation(
        partitions=sum(node["op_name"] == _PARTITION for node in executed),
        undelegated=dict(sorted(Counter(node["op_name"] for node in own).items())),
        int16=any(np.int16 in node["result_types"] for node in own),
    )


def _executed(nodes: list[dict[str, Any]], targets: set[int]) -> list[dict[str, Any]]:
    """The nodes that are run, from the outputs up: LiteRT lists delegated operators too, before their partitions."""
    makers = {int(tensor): node for node in nodes for tensor in node["outputs"]}
    found: dict[int, dict[str, Any]] = {}
    wanted = list(targets)
    while wanted:
        node = makers.get(wanted.pop())
        if node is not None and node["index"] not in found:
            found[node["index"]] = node
            wanted.extend(int(tensor) for tensor in node["inputs"])
    return list(found.values())


def _at_an_end(node: dict[str, Any], sources: set[int], targets: set[int]) -> bool:
    """Whether it only converts the numbers of the input or the output: next to no time, and no cut."""
    first, last = sources.intersection(map(int, node["inputs"])), targets.intersection(map(int, node["outputs"]))
    return node["op_name"] in ("QUANTIZE", "DEQUANTIZE") and bool(first or last)
