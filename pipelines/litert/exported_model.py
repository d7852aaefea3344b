"""One exported model, loaded by LiteRT and queried one image at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from pipelines.litert.labels import labels_of


@dataclass(frozen=True, kw_only=True)
class Ends:
    """How pixels enter an exported model and logits leave it.

    image_shape: (height, width, 3). codes: of each of the 256 pixel values, None where a cast is enough. input_scale,
    input_zero_point: of the codes. output_dtype: of the logits as they leave. scale, zero_point: of integer logits; a
    scale of 0 for floats.
    """

    image_shape: tuple[int, int, int]
    classes: int
    input_dtype: np.dtype[Any]
    codes: npt.NDArray[np.integer[Any]] | None
    input_scale: float
    input_zero_point: int
    output_dtype: np.dtype[Any]
    scale: float
    zero_point: int

    @classmethod
    def of(cls, path: Path, source: dict[str, Any], target: dict[str, Any]) -> Ends:
        """From LiteRT's description of the input and the output. Raises ValueError for other types of pixels."""
        dtype = np.dtype(source["dtype"])
        scale, zero_point = target["quantization"]
        input_scale, input_zero_point = source["quantization"]
        return cls(
            image_shape=_image_shape(source),
            classes=int(target["shape"][1]),
            input_dtype=dtype,
            codes=_codes(path, dtype, input_scale, input_zero_point),
            input_scale=float(input_scale),
            input_zero_point=int(input_zero_point),
            output_dtype=np.dtype(target["dtype"]),
            scale=scale,
            zero_point=zero_point,
        )

    def pixels(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """What the input takes for raw pixels."""
        return images.astype(self.input_dtype, copy=False) if self.codes is None else self.codes.take(images)

    def logits(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """What the output means."""
        values = output.astype(np.float32, copy=False)
        if self.scale:
            values = (values - np.float32(self.zero_point)) * np.float32(self.scale)
        return values


class ExportedModel:
    """A `.tflite` classifier: raw uint8 RGB pixels in, float32 logits out.

    image_shape: (height, width, 3). classes: number of logits. input_dtype: of the input tensor. Not thread-safe: give
    each thread its own.

    batch: number of images of one `query_batch`, to which the input tensor is resized.

    Raises ValueError if the file is missing, LiteRT refuses it, it is no classifier of single RGB images, or its
    operators do not support the batch size.
    """

    image_shape: tuple[int, int, int]
    classes: int
    input_dtype: np.dtype[Any]

    def __init__(self, path: Path, threads: int = 1, *, batch: int = 1) -> None:
        self.path = Path(path)
        self._interpreter = _interpreter(self.path, num_threads=threads)
        source, _ = _ends(self._interpreter, self.path, 1)
        self.image_shape = _image_shape(source)
        if batch > 1:
            self._interpreter.resize_tensor_input(source["index"], [batch, *self.image_shape])
        try:
            self._interpreter.allocate_tensors()
        except RuntimeError as error:
            images = f"{batch} images" if batch > 1 else "an image"
            raise ValueError(
                f"{self.path} must take {images} at once with builtin operators only, got {_line(error)}: convert it "
                "without other operators, or measure a batch of one"
            ) from error
        source, target = _ends(self._interpreter, self.path, batch)
        self._form = Ends.of(self.path, source, target)
        self.classes, self.input_dtype = self._form.classes, self._form.input_dtype
        self._input, self._output = source["index"], target["index"]

    def query(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of one image: uint8 (h, w, 3) to float32 (classes,). Latency is the time of this call."""
        if image.shape != self.image_shape or image.dtype != np.uint8:
            raise ValueError(
                f"an image for {self.path} must be uint8 of shape {self.image_shape}, "
                f"got {image.dtype} of shape {image.shape}: pass raw RGB pixels, 0 to 255"
            )
        self._interpreter.set_tensor(self._input, self._form.pixels(image)[np.newaxis])
        self._interpreter.invoke()
        return self._form.logits(self._interpreter.get_tensor(self._output)[0])

    def query_batch(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of `batch` images in one call: uint8 (batch, h, w, 3) to float32 (batch, classes)."""
        self._interpreter.set_tensor(self._input, self._form.pixels(images))
        self._interpreter.invoke()
        return self._form.logits(self._interpreter.get_tensor(self._output))

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of many images, one by one: uint8 (n, h, w, 3) to float32 (n, classes)."""
        result = np.empty((len(images), self.classes), np.float32)
        for row, image in zip(result, images, strict=True):
            row[:] = self.query(image)
        return result

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits; empty if the file has none."""
        return labels_of(self.path)


def image_shape(path: Path) -> tuple[int, int, int]:
    """(height, width, 3) of the images that an exported model takes. Allocates no tensors.

    Raises ValueError as ExportedModel does, except for operators that LiteRT lacks.
    """
    return _image_shape(_ends(_undelegated(Path(path)), path, 1)[0])


def ends(path: Path) -> Ends:
    """How pixels enter and logits leave. Allocates no tensors. Raises ValueError as ExportedModel does."""
    return Ends.of(path, *_ends(_undelegated(Path(path)), path, 1))


def tensor_dtypes(path: Path) -> Counter[str]:
    """Number of tensors of each dtype in the exported model's main graph, such as {"int8": 10, "int32": 4}.

    They are counted as stored, without delegates or allocation.
    """
    return Counter(np.dtype(tensor["dtype"]).name for tensor in _undelegated(Path(path)).get_tensor_details())


def _image_shape(source: dict[str, Any]) -> tuple[int, int, int]:
    _, height, width, channels = (int(size) for size in source["shape"])
    return height, width, channels


def _undelegated(path: Path) -> Any:
    return _interpreter(path, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


def _ends(interpreter: Any, path: Path, batch: int) -> tuple[dict[str, Any], dict[str, Any]]:
    sources, targets = interpreter.get_input_details(), interpreter.get_output_details()
    shapes = [tuple(int(size) for size in end["shape"]) for end in (*sources, *targets)]
    if (
        (len(sources), len(targets)) != (1, 1)
        or (len(shapes[0]), shapes[0][0], shapes[0][-1]) != (4, batch, 3)
        or (len(shapes[1]), shapes[1][0]) != (2, batch)
    ):
        raise ValueError(
            f"{path} must have one input ({batch}, h, w, 3) and one output ({batch}, classes), got inputs and "
            f"outputs of shapes {shapes}: export it with a batch of one"
        )
    if -1 in list(sources[0].get("shape_signature", ()))[1:]:
        raise ValueError(
            f"{path} must take images of one size, got any height and width, of which LiteRT would take one pixel: "
            "export it for the size that it will be used with"
        )
    return sources[0], targets[0]


def _interpreter(path: Path, **options: Any) -> Any:
    if not path.is_file():
        raise ValueError(f"{path} must be a .tflite file, got no such file: export the exported model first")
    try:
        return Interpreter(str(path), **options)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"{path} must be a TFLite flatbuffer, got a file that LiteRT refuses ({_line(error)}): export it anew"
        ) from error


def _codes(path: Path, dtype: np.dtype[Any], scale: float, zero_point: int) -> npt.NDArray[np.integer[Any]] | None:
    """The input code of each of the 256 pixel values, or None where a cast is enough.

    A table makes the timed path one lookup. Halves round away from zero, as LiteRT's Quantize operator does.
    """
    if dtype == np.float32 or (dtype in (np.uint8, np.int16) and (scale, zero_point) in ((0, 0), (1, 0))):
        return None
    if dtype not in (np.uint8, np.int8, np.int16) or scale <= 0:
        raise ValueError(
            f"the input of {path} must be float32 or quantized uint8, int8 or int16, got {dtype} with scale "
            f"{scale}: set the converter's inference_input_type"
        )
    codes = np.floor(np.arange(256) / scale + 0.5) + zero_point
    limits = np.iinfo(dtype)
    return codes.clip(limits.min, limits.max).astype(dtype)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
