"""The content of an exported model by LiteRT's schema: read, and written again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# What LiteRT demands of the data of a buffer, `force_align` in its schema.
ALIGNMENT = 16


def parse(flatbuffer: bytes) -> Any:
    """The content of an exported model as the `ModelT` of LiteRT's schema."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(bytearray(flatbuffer), 0)


def named_operators(model: Any) -> list[tuple[str, Any]]:
    """Name, such as `CONV_2D`, and `OperatorT` of all operators of the main graph of a `ModelT`, in order."""
    from ai_edge_litert import schema_py_generated as schema

    codes = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    return [(codes[_code(model.operatorCodes[one.opcodeIndex])], one) for one in model.subgraphs[0].operators]


def add_note(model: Any, name: str, data: bytes) -> None:
    """Add an entry to the metadata of a `ModelT`."""
    from ai_edge_litert import schema_py_generated as schema

    note = schema.MetadataT()
    note.name, note.buffer = name.encode(), len(model.buffers)
    model.buffers.append(schema.BufferT(data=np.frombuffer(data, np.uint8)))
    model.metadata = [*(model.metadata or ()), note]


def notes(model: Any) -> dict[str, bytes]:
    """The metadata of a `ModelT` by name."""
    found = ((note.name.decode(), model.buffers[note.buffer].data) for note in model.metadata or ())
    return {name: bytes(data) for name, data in found if data is not None}


def packed(model: Any) -> bytes:
    """The flatbuffer of a `ModelT`, without the data that no tensor refers to."""
    import flatbuffers

    _clear_unused(model)

    class Aligned(flatbuffers.Builder):  # type: ignore[misc]
        """The generated code aligns data to one byte, with which LiteRT would read floats from odd addresses."""

        def CreateNumpyVector(self, x: npt.NDArray[Any]) -> Any:  # noqa: N802 (overrides)
            if x.dtype == np.uint8:
                self.Prep(ALIGNMENT, x.nbytes)
            return super().CreateNumpyVector(x)

    builder = Aligned(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _clear_unused(model: Any) -> None:
    """Drop the data that no tensor refers to any more."""
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata or ()}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None


def _code(operator_code: Any) -> int:
    # Codes up to 127 are in an older field of one byte; the newer one is then 0.
    return int(max(operator_code.builtinCode, operator_code.deprecatedBuiltinCode))
