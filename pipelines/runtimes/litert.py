"""LiteRT, with XNNPACK as its accelerated delegate: the runtime that a cell is measured with."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.kernels import kernels
from pipelines.runtimes.base import FLOAT32, INT8, LITERT, Program, Runtime

# By the type in which the kernels are stored. LiteRT rounds the activations of int8 kernels to 8 bits as well, and
# widens float16 ones when it loads them.
_COMPUTED = {"float32": FLOAT32, "float16": FLOAT32, "int8": INT8, "int4": INT8}


class _Loaded(ExportedModel):
    @cached_property
    def precision(self) -> str:
        counted: Counter[str] = Counter()
        for kernel in kernels(self.path):
            counted[_COMPUTED[kernel.stored]] += kernel.values.size
        return counted.most_common(1)[0][0] if counted else FLOAT32


class LiteRT(Runtime):
    """Its defaults."""

    name = LITERT

    def version(self) -> str:
        """Of the Python package."""
        return f"ai-edge-litert {version('ai-edge-litert')}"

    def program(self, threads: int) -> Program:
        """With the interpreter."""
        return Program(
            package="ai-edge-litert",
            imports="from ai_edge_litert.interpreter import Interpreter",
            load=f"model = Interpreter(str(MODEL), num_threads={threads})\nmodel.allocate_tensors()",
            answer=(
                'model.set_tensor(model.get_input_details()[0]["index"], pixels)\n'
                "model.invoke()\n"
                'logits = model.get_tensor(model.get_output_details()[0]["index"])[0]'
            ),
        )

    def load(self, path: Path, threads: int, *, batch: int = 1) -> _Loaded:
        """Raises ValueError as `ExportedModel` does."""
        return _Loaded(path, threads, batch=batch)


RUNTIMES = (LiteRT(),)
