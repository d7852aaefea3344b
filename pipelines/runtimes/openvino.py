"""OpenVINO, which reads `.tflite` files as they are.

Source: docs.openvino.ai, "Convert from TensorFlow Lite" and "CPU device".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.litert.exported_model import Ends
from pipelines.runtimes.base import BFLOAT16, FLOAT32, INT8, Program, Runtime, form_of
from pipelines.system.words import one_line

_WORDS = {"f32": FLOAT32, "bf16": BFLOAT16, "i8": INT8, "u8": INT8}
# In OpenVINO's messages: where in its own code a fault was found.
_PLACE = re.compile(r"Exception from \S+:\d+:\s*")
# Nodes with weights in the compiled graph.
_LAYERS = ("Convolution", "FullyConnected", "MatMul")


class OpenVINO(Runtime):
    """On the processor, set for the least latency.

    precision: of floats, `f32`; None for its default, which is bfloat16 on processors that have instructions for it.
    """

    def __init__(self, name: str, precision: str | None = None) -> None:
        self.name, self.precision = name, precision

    def version(self) -> str:
        """Of the library. Raises ValueError with the command that installs it."""
        try:
            import openvino
        except ModuleNotFoundError as error:
            raise ValueError(
                f"runtimes={self.name} needs OpenVINO, which is not installed: pip install 'opscore[openvino]', or "
                "leave it out"
            ) from error
        return f"openvino {openvino.__version__.partition('-')[0]}"

    def settings(self, threads: int) -> dict[str, Any]:
        """Of a compiled model."""
        found: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        return found | ({"INFERENCE_PRECISION_HINT": self.precision} if self.precision else {})

    def program(self, threads: int) -> Program:
        """With a compiled model."""
        settings = ", ".join(f'"{name}": {json.dumps(value)}' for name, value in self.settings(threads).items())
        return Program(
            package="openvino",
            imports="import openvino",
            load=f'model = openvino.Core().compile_model(MODEL, "CPU", {{{settings}}})',
            answer="logits = model(pixels)[0][0]",
        )

    def prepare(self, path: Path) -> None:
        """OpenVINO loads its plugin for the processor with the first model, as in every program."""
        form_of(path)
        self.version()

    def load(self, path: Path, threads: int, *, batch: int = 1) -> _Loaded:
        """Raises ValueError where OpenVINO does not take an operator of the file, or its batch."""
        import openvino

        form = form_of(path)
        try:
            core = openvino.Core()
            network = core.read_model(path)
            network.reshape([batch, *form.image_shape])
            compiled = core.compile_model(network, "CPU", self.settings(threads))
        except RuntimeError as error:
            reason = one_line(_PLACE.sub("", str(error)) or error)
            raise ValueError(
                f"{path} must be a model that OpenVINO takes, got {reason}: measure it with runtimes=litert"
            ) from error
        return _Loaded(compiled, form)


class _Loaded:
    def __init__(self, compiled: Any, form: Ends) -> None:
        self.image_shape = form.image_shape
        self._form, self._compiled = form, compiled
        self._request, self._output = compiled.create_infer_request(), compiled.output(0)

    def query(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self.query_batch(image[np.newaxis])[0]  # type: ignore[no-any-return]

    def query_batch(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        found = self._request.infer([self._form.pixels(images)], share_inputs=True)
        return self._form.logits(found[self._output])

    @property
    def precision(self) -> str:
        counted: Counter[str] = Counter()
        for node in self._compiled.get_runtime_model().get_ops():
            info = node.get_rt_info()
            if info["layerType"].astype(str) in _LAYERS:
                # Such as `brgconv_avx512_bf16` or `..._I8`. `runtimePrecision` may be that of the stored weights.
                counted[info["primitiveType"].astype(str).rpartition("_")[2].lower()] += 1
        word = counted.most_common(1)[0][0] if counted else "f32"
        return _WORDS.get(word, word)


RUNTIMES = (OpenVINO("openvino"), OpenVINO("openvino_f32", precision="f32"))
