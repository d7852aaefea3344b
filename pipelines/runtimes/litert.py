"""LiteRT, with XNNPACK as its accelerated delegate: the runtime that a cell is measured with, and a setting of it."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert.exported_model import ExportedModel
from pipelines.litert.kernels import kernels
from pipelines.litert.stream import random_images
from pipelines.results.on_device import LITERT
from pipelines.runtimes.base import FLOAT16, FLOAT32, INT8, Program, Runtime, form_of
from pipelines.system.words import one_line

# By the type in which the kernels are stored. LiteRT rounds the activations of int8 kernels to 8 bits as well, and
# widens float16 ones when it loads them. Files of TensorFlow 1 have uint8 kernels.
_COMPUTED = {"float32": FLOAT32, "float16": FLOAT32, "int8": INT8, "uint8": INT8, "int4": INT8}


# Flags of XNNPACK's delegate: its default, quantized operators of both signs; and float16 for floats.
DEFAULT, FLOAT16_FORCED = 0x1 | 0x2, 0x4


class _Loaded(ExportedModel):
    @cached_property
    def precision(self) -> str:
        counted: Counter[str] = Counter()
        for kernel in kernels(self.path):
            counted[_COMPUTED.get(kernel.stored, kernel.stored)] += kernel.values.size
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


class LiteRTFloat16(Runtime):
    """Floats are stored and multiplied in float16, and summed in float32, where XNNPACK has such kernels.

    Only the compiled model of LiteRT's newer interface takes this setting. Integers are computed as by `LiteRT`.
    """

    name = "litert_fp16"

    def version(self) -> str:
        """Of the Python package."""
        return LiteRT().version()

    def program(self, threads: int) -> Program:
        """With a compiled model."""
        return Program(
            package="ai-edge-litert",
            imports="from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, Options",
            load=(
                f"cpu = CpuOptions(num_threads={threads}, xnnpack_flags={DEFAULT | FLOAT16_FORCED})\n"
                "model = CompiledModel.from_file(str(MODEL), options=Options(cpu_options=cpu))\n"
                "(source,), (target,) = model.create_input_buffers(0), model.create_output_buffers(0)\n"
                "((end,),) = [model.get_output_tensor_details(one).values() for one in model.get_signature_list()]"
            ),
            answer=(
                "source.write(pixels)\n"
                "model.run_by_index(0, [source], [target])\n"
                'logits = target.read(len(LABELS), end["dtype"])'
            ),
        )

    def prepare(self, path: Path) -> None:
        """The interface of compiled models is a module of its own."""
        import ai_edge_litert.compiled_model  # noqa: F401

        form_of(path)

    def load(self, path: Path, threads: int, *, batch: int = 1) -> Compiled:
        """Raises ValueError as `ExportedModel` does, and where the compiled model takes no such input or batch."""
        return Compiled(path, threads, batch, flags=DEFAULT | FLOAT16_FORCED)


class Compiled:
    """A model that LiteRT compiled. more: of its `CpuOptions`, such as a file for packed weights.

    Raises ValueError where it takes no such input or batch.
    """

    def __init__(self, path: Path, threads: int, batch: int = 1, *, flags: int, **more: Any) -> None:
        from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, Options

        self.path, self._form, self._batch = path, form_of(path), batch
        self.image_shape = self._form.image_shape
        if self._form.input_dtype == np.int16:
            raise ValueError(f"{path} must have an input that buffers hold, got int16: measure it with runtimes=litert")
        options = Options(cpu_options=CpuOptions(num_threads=threads, xnnpack_flags=flags, **more))
        try:
            self._model = CompiledModel.from_file(str(path), options=options)
            if batch > 1:
                self._model.resize_input_tensor(0, [batch, *self.image_shape], strict=False)
            self._source, self._target = self._model.create_input_buffers(0), self._model.create_output_buffers(0)
        except RuntimeError as error:
            raise self._refusal(error) from error

    def _refusal(self, error: RuntimeError) -> ValueError:
        images = f"{self._batch} image{'s' * (self._batch > 1)}"
        return ValueError(
            f"{self.path} must be a model that LiteRT compiles for {images} at once, got "
            f"{one_line(error)}: measure it with runtimes=litert"
        )

    def query(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of one image: uint8 (h, w, 3) to float32 (classes,)."""
        return self.query_batch(image[np.newaxis])[0]  # type: ignore[no-any-return]

    def query_batch(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of `batch` images: uint8 (batch, h, w, 3) to float32 (batch, classes)."""
        self._source[0].write(self._form.pixels(images))
        try:
            self._model.run_by_index(0, self._source, self._target)
        except RuntimeError as error:
            raise self._refusal(error) from error
        values = self._target[0].read(self._batch * self._form.classes, self._form.output_dtype)
        return self._form.logits(values.reshape(self._batch, -1))

    @cached_property
    def precision(self) -> str:
        """No interface tells it: where all logits equal those of the default, it computes as the default does."""
        default = _Loaded(self.path, 1, batch=self._batch)
        images = random_images(self.image_shape, self._batch, 0)
        return default.precision if np.array_equal(self.query_batch(images), default.query_batch(images)) else FLOAT16


RUNTIMES = (LiteRT(), LiteRTFloat16())
