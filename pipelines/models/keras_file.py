"""A trained Keras model from a file, of Keras 2 or 3, as a model like any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.models import (
    checkpoint,
    custom_objects,
    imagenet,
    keras_answers,
    keras_format,
    keras_loading,
    keras_safety,
)
from pipelines.models.base import Model, check_flat
from pipelines.models.keras_graph import Rebuild, plain
from pipelines.models.keras_layers import UnsupportedLayerError, rescaled
from pipelines.models.keras_value import Value
from pipelines.system import checks, guard
from pipelines.system.names import class_name
from pipelines.system.places import expanded
from pipelines.system.words import some

if TYPE_CHECKING:
    import tf_keras

# What the file's model expects, by name: scale and offset for each colour of pixels 0..255 in RGB. The last two are the
# modes of Keras's `preprocess_input`.
PIXELS: dict[str, tuple[Any, Any]] = {
    "0..255": (1.0, 0.0),
    "0..1": (1 / 255, 0.0),
    "-1..1": (1 / 127.5, -1.0),
    "caffe": (1.0, [-mean for mean in imagenet.CAFFE_MEAN]),
    "torch": (
        [1 / 255 / deviation for deviation in imagenet.DEVIATION],
        [-mean / deviation for mean, deviation in zip(imagenet.MEAN, imagenet.DEVIATION, strict=True)],
    ),
}
# Of the largest answer, by which rounding may change one.
MAX_DIFFERENCE, MAX_DIFFERENCE_HALF = 0.01, 0.2
_WITH_WEIGHTS = (
    "BatchNormalization", "Conv2D", "Dense", "DepthwiseConv2D", "LayerNormalization", "MultiHeadAttention",
    "SeparableConv2D",
)  # fmt: skip
# Shares of red, green and blue in the brightness: ITU-R BT.601, as Pillow's mode L.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class KerasFile(Model):
    """The model in the file `path`, `.keras` or `.h5`, with its weights. Its content counts, not its place.

    trained: true takes the weights as they are; false fine-tunes them first, as for the other models. trained_s:
    seconds of that training; None if unknown. pixels: one of PIXELS. input_size: for a file without a size of its own.
    class_names: a text file, a class a line, in the order of the model's answers; None for the dataset's order. trust:
    whether code in the file may run. custom_objects: the module of the file's own layers.
    """

    path: str | None = field(metadata={"fingerprint": False})
    trained: bool = True
    trained_s: float | None = None
    pixels: str
    class_names: str | None = field(metadata={"fingerprint": False})
    trust: bool
    custom_objects: str | None

    def __post_init__(self) -> None:
        """Check the fields; `preflight` reads the file."""
        checks.flag("model.trained", self.trained)
        checks.flag("model.trust", self.trust)
        checks.one_of("model.pixels", self.pixels, PIXELS)
        for name in ("path", "class_names", "custom_objects"):
            value = getattr(self, name)
            if not isinstance(value, str | None):
                raise ValueError(
                    f"model.{name} must be a name in text or null, got {value!r}: write one file or module"
                )
        if self.custom_objects:
            custom_objects.check_name(self.custom_objects)
        if self.trained_s is not None:
            checks.number("model.trained_s", self.trained_s, minimum=0)
        super().__post_init__()

    @property
    def default_name(self) -> str:
        """The stem of the file."""
        return Path(self.path).stem if self.path else "keras_file"

    @property
    def pretrained(self) -> bool:
        """Always."""
        return True

    @property
    def unproven(self) -> bool:
        """Always."""
        return True

    @property
    def other_pixels(self) -> Mapping[str, Callable[[Any], Any]]:
        """Every other of PIXELS; for a gray model those that treat all colours alike."""
        if self._content.image_shape[2] == 1:
            alike = {name: read for name, read in PIXELS.items() if not isinstance(read[1], list)}
            return (
                {name: _seen(self.pixels, name) for name in alike.keys() - {self.pixels}}
                if self.pixels in alike
                else {}
            )
        return {name: _seen(self.pixels, name) for name in PIXELS if name != self.pixels}

    @property
    def origin(self) -> tuple[str | Path | None, ...]:
        """The file, and that of the class names."""
        return self._path, _expanded(self.class_names)

    @property
    def modules(self) -> tuple[str, ...]:
        """That of the file's own layers."""
        return () if self.custom_objects is None else (self.custom_objects,)

    @property
    def side(self) -> int | None:
        """The smaller side of the file's own input, else `input_size`."""
        height, width, _ = self._content.image_shape
        return min(height, width) if height and width else self.input_size

    def preflight(self, image_shape: tuple[int, int, int]) -> None:
        """Read the file's configuration and check it, without TensorFlow; nothing in the file is run."""
        if image_shape[2] != 3:
            raise ValueError(f"images must have 3 channels, got {image_shape[2]}: make the dataset give RGB")
        height, width, _ = self._content.image_shape
        if not (height and width) and self.input_size is None:
            raise ValueError(
                f"model.input_size must be given, as {self.path} takes images of any size, got nothing: set for "
                "example model.input_size=224"
            )
        if height and width and self.input_size not in (None, height, width):
            raise ValueError(
                f"model.input_size must be null for {self.path}, which takes images of {height}x{width}, got "
                f"{self.input_size}: leave it out"
            )
        for layer in self._content.layers:
            if layer.calls > 1 and layer.kind in _WITH_WEIGHTS:
                raise ValueError(
                    f"layer {layer.name} of kind {layer.kind} in {self.path} is called {layer.calls} times with the "
                    "same weights, which no technique here takes: give each call a layer of its own and save the "
                    "model again"
                )
        if self.custom_objects is not None:
            custom_objects.check_importable(self.custom_objects)

    def check_classes(self, labels: Sequence[str]) -> None:
        """Raise ValueError where the answers are not the classes."""
        answers = self._content.answers
        if answers is not None:
            keras_answers.check_number(answers, len(labels), where=f" in {self.path}")
        self._order(labels)

    def build(self, image_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
        """The file's network, flat, from raw pixels to logits, with the file's weights.

        Raises ValueError that names a layer that cannot be rebuilt, or the numbers of answers and classes.
        """
        import tf_keras

        image, value = self._front(image_shape)
        content = self._content
        with keras_loading.loaded(content, trust=self.trust, custom_objects=self.custom_objects) as (model, custom):
            taken = [layer.name for layer in tf_keras.Model(image, value.tensor).layers]
            output = Rebuild(generation=content.generation, custom=custom, taken=taken).behind(value, model)
            # Half precision rounds otherwise, and the deeper the network, the more.
            if custom or not checkpoint.in_half_precision(model):
                _check_answers(self.path, tf_keras.Model(image, [value.tensor, output.tensor]), value, model)
        network = keras_answers.with_logits(image, output.tensor, classes, plain(self.name))
        check_flat(network)
        return network

    def arrange(self, network: tf_keras.Model, labels: Sequence[str]) -> None:
        """Put the answers into the order of the dataset's classes."""
        order = self._order(labels)
        if order is not None:
            keras_answers.reorder(network, order)

    def register(self) -> None:
        """Make the user's own layers known to tf_keras, to load checkpoints."""
        if self.custom_objects is not None:
            keras_loading.register(self.custom_objects)

    def _front(self, image_shape: tuple[int, int, int]) -> tuple[Any, Value]:
        """The input, and its pixels in the size, the colours and the range that the file's model expects."""
        import tf_keras

        height, width, channels = self._content.image_shape
        size = (height or self.input_size, width or self.input_size)
        image = x = tf_keras.layers.Input(image_shape, dtype="float32", name="image")
        if image_shape[:2] != size:
            x = tf_keras.layers.Resizing(*size, interpolation="bilinear", dtype="float32", name="resize")(x)
        if channels == 1:
            x = _gray(x, size)
        scale, offset = PIXELS[self.pixels]
        if channels == 1 and isinstance(offset, list):
            scale, offset = (float(sum(one) / 3) if isinstance(one, list) else one for one in (scale, offset))
        value = Value(x)
        if self.pixels != "0..255":
            value = rescaled(value, scale, offset, lambda: "rescale")
        # Keras's mode `caffe` has blue first.
        return image, Value(value.tensor, reverse=self.pixels == "caffe" and channels == 3)

    @property
    def _path(self) -> Path:
        path = _expanded(self.path)
        if path is None:
            raise ValueError("model.path must be given, got nothing: set for example model.path=shoes.keras")
        return path

    @property
    def _content(self) -> keras_format.Content:
        content = _read(self._path, self._path.stat().st_mtime_ns if self._path.is_file() else 0)
        keras_safety.check_safe(content, trust=self.trust, custom=self.custom_objects)
        return content

    def _order(self, labels: Sequence[str]) -> list[int] | None:
        """For each class of the dataset the number of the model's answer; None for the same order."""
        path = _expanded(self.class_names)
        if path is None:
            return None
        if not path.is_file():
            raise FileNotFoundError(f"model.class_names must be a file that exists, got {path}: correct the path")
        # Editors on Windows begin a file with a mark.
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"model.class_names must be a text in UTF-8, got {path} with other bytes at {error.start}: save it "
                "as UTF-8"
            ) from error
        names = [class_name(line) for line in text.splitlines() if line.strip()]
        missing = [label for label in labels if label not in names]
        if missing or len(names) != len(labels):
            raise ValueError(
                f"model.class_names must name the dataset's {len(labels)} classes, got {path} with {len(names)} lines"
                f"{' and without ' if missing else ''}{', '.join(missing[:5])}: "
                f"write {some(labels, 5)}, one a line, in the order of "
                "the model's answers"
            )
        return [names.index(label) for label in labels]


def _seen(pixels: str, other: str) -> Callable[[Any], Any]:
    """The images with which a network that is built for `pixels` sees what it would see with other ones."""
    (own_scale, own_offset), (scale, offset) = ([np.float32(one) for one in PIXELS[name]] for name in (pixels, other))
    # Keras's mode `caffe` has blue first.
    order = slice(None, None, -1 if "caffe" in (pixels, other) else 1)

    def images(given: Any) -> Any:
        return ((given * scale + offset)[..., order] - own_offset) / own_scale

    return images


def _check_answers(path: object, rebuilt: Any, value: Value, model: Any) -> None:
    """Raise UnsupportedLayerError where the rebuilt graph does not answer as the file's model does.

    rebuilt: from pixels to `value`, the input of the file's model, and to its answers.
    """
    import tensorflow as tf

    most = MAX_DIFFERENCE_HALF if checkpoint.in_half_precision(model) else MAX_DIFFERENCE
    rebuilt = checkpoint.as_float32(rebuilt)
    images = np.random.default_rng(0).integers(0, 256, (2, *rebuilt.input_shape[1:])).astype(np.float32)
    inputs, ours = (np.asarray(one) for one in rebuilt(images, training=False))
    given = inputs[..., ::-1] if value.reverse else inputs
    try:
        theirs = np.asarray(tf.nest.flatten(model(given, training=False))[0])
    except Exception as error:
        raise UnsupportedLayerError(
            f"{path} must be a model that Keras can use, got {type(error).__name__}: {guard.first_line(error)}"
        ) from error
    difference = float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-30))
    if not difference <= most:
        raise UnsupportedLayerError(
            f"{path} must answer as it did when it is rebuilt from layers of Keras 2, got other answers: "
            "write its own layers and functions with plain layers of Keras, and save the model again"
        )


def _gray(image: Any, size: tuple[Any, Any]) -> Any:
    """Brightness from RGB, by operators that quantize and hold no weights: a mean over the weighted colours."""
    import tf_keras

    layers = tf_keras.layers
    height, width = size
    weighted = layers.Rescaling([3 * share for share in _LUMA], dtype="float32", name="gray_shares")(image)
    colours = layers.Reshape((height * width, 3, 1), name="gray_colours")(weighted)
    mean = layers.AveragePooling2D((1, 3), name="gray_mean")(colours)
    return layers.Reshape((height, width, 1), name="gray")(mean)


def _expanded(path: str | None) -> Path | None:
    return None if path is None else expanded(path)


@cache
def _read(path: Path, changed_ns: int) -> keras_format.Content:  # noqa: ARG001 (a changed file is read again)
    return keras_format.read(path)
