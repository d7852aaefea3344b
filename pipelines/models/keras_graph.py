"""The graph of a Keras model of either generation, rebuilt in tf_keras: one flat graph of plain layers.

Nested models are unrolled, augmentation is left out, and arithmetic becomes layers, so that every technique can take
the graph. Outputs are equal up to rounding, except for a final activation, which stays for `keras_answers` to remove.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any

import numpy as np

from pipelines.models import keras_attention, keras_layers, keras_operations
from pipelines.models.keras_layers import UnsupportedLayerError
from pipelines.models.keras_value import Value
from pipelines.system import guard

# Layers that do nothing when a model is used.
_AUGMENTATION = (
    "AugMix", "CutMix", "Equalization", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration",
    "RandomColorJitter", "RandomContrast", "RandomElasticTransform", "RandomErasing", "RandomFlip",
    "RandomGaussianBlur", "RandomGrayscale", "RandomHeight", "RandomHue", "RandomInvert", "RandomPerspective",
    "RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear",
    "RandomTranslation", "RandomWidth", "RandomZoom", "Solarization", "ActivityRegularization", "Identity",
)  # fmt: skip
# Layers between the backbone's last feature map and the answers.
_HEAD = (
    "Activation", "AlphaDropout", "BatchNormalization", "Dense", "Dropout", "ELU", "GaussianDropout", "GaussianNoise",
    "LayerNormalization", "LeakyReLU", "PReLU", "ReLU", "Softmax",
)  # fmt: skip
_POOLS = (
    "Flatten", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D",
)  # fmt: skip


@dataclass
class Rebuild:
    """Puts the layers of a loaded model, which may nest others, behind a tensor of a new graph.

    generation: of the Keras of the loaded model. custom: the user's classes by name, for tf_keras. taken: names of the
    layers before the tensor.
    """

    generation: int
    custom: dict[str, Any]
    taken: InitVar[Iterable[str]] = ()
    _names: set[str] = field(default_factory=set)
    _called: set[int] = field(default_factory=set)
    _head: dict[int, str] = field(default_factory=dict)

    def __post_init__(self, taken: Iterable[str]) -> None:
        self._names.update(taken)

    def behind(self, value: Value, model: Any) -> Value:
        """The output of the model on `value`. Raises UnsupportedLayerError that names a layer."""
        self._head = {id(layer): "" for layer in _head_of(model)}
        return self._model(model, [value], "")[0]

    def _model(self, model: Any, inputs: Sequence[Value], prefix: str) -> list[Value]:
        model = _functional(model)
        known = {id(tensor): value for tensor, value in zip(model.inputs, inputs, strict=True)}
        for node in _nodes(model):
            layer, args, kwargs, outputs = _parts(node)
            args, kwargs = _mapped(args, known), {name: _mapped(one, known) for name, one in kwargs.items()}
            results = self._call(layer, args, kwargs, prefix)
            if len(results) != len(outputs):
                raise UnsupportedLayerError(
                    f"layer {layer.name} of kind {type(layer).__name__} gives {len(outputs)} outputs, which cannot be "
                    "rebuilt: use one that gives one"
                )
            known.update(zip(map(id, outputs), results, strict=True))
        return [known[id(tensor)] for tensor in model.outputs]

    def _call(self, layer: Any, args: Any, kwargs: dict[str, Any], prefix: str) -> list[Value]:
        kind = type(layer).__name__
        values = list(_values(args)) + list(_values(kwargs))
        if _is_model(layer):
            self._once(layer)
            return self._model(layer, values, f"{prefix}{layer.name}_")
        # RandomCrop of Keras 3 leaves the images of a model that is used, that of Keras 2 makes them smaller.
        if kind in _AUGMENTATION or (kind == "RandomCrop" and self.generation == 3):
            return [values[0]]
        if kind == "Lambda":
            return self._function(layer, values[0], prefix)
        if not hasattr(layer, "get_weights") or kind in ("TFOpLambda", "SlicingOpLambda"):
            return [keras_operations.operation(layer, args, kwargs, self._namer(layer, prefix))]
        make = keras_layers.Maker(
            layer=layer, generation=self.generation, custom=self.custom, name=self._namer(layer, prefix)
        )
        if layer.weights:
            self._once(layer)
        # A layer of the user's own may have the name.
        if kind == "MultiHeadAttention" and kind not in self.custom:
            return [keras_attention.attention(make, args, kwargs)]
        if constants := _constants(layer, args, kwargs):
            raise UnsupportedLayerError(
                f"layer {layer.name} of kind {kind} is called with {constants[0]!r} next to its inputs, which cannot "
                "be rebuilt: make it an argument of the layer's constructor and save the model again"
            )
        return [make.call(values)]

    def _function(self, layer: Any, value: Value, prefix: str) -> list[Value]:
        """The operations of a Lambda layer, which is trusted, or it would not have been loaded."""
        import tf_keras

        probe = tf_keras.Input(value.tensor.shape[1:])
        try:
            traced = tf_keras.Model(probe, layer.function(probe, **(layer.arguments or {})))
        except Exception as error:
            raise UnsupportedLayerError(
                f"layer {layer.name} of kind Lambda cannot be written as layers ({type(error).__name__}: "
                f"{guard.first_line(error)}): use layers of Keras in its place, such as Rescaling"
            ) from error
        return self._model(traced, [value], f"{prefix}{layer.name}_")

    def _once(self, layer: Any) -> None:
        if id(layer) in self._called:
            raise UnsupportedLayerError(
                f"layer {layer.name} of kind {type(layer).__name__} is called more than once with the same weights, "
                "which no technique here takes: give each call a layer of its own and save the model again"
            )
        self._called.add(id(layer))

    def _namer(self, layer: Any, prefix: str) -> keras_layers.Namer:
        """Gives names that no other layer of the graph has. Layers of the head begin with `head_`."""
        if id(layer) in self._head:
            prefix = "head_"
        own = "pool" if id(layer) in self._head and type(layer).__name__ in _POOLS else plain(layer.name)
        if prefix != "head_" and own.startswith("head_"):
            own = f"backbone_{own}"

        def name(part: str = "") -> str:
            base = f"{own}_{part}" if part else own
            candidates = [base, *([f"{prefix}{base}"] if prefix else [])]
            if prefix == "head_":
                candidates = candidates[1:]
            numbered = (f"{candidates[-1]}_{number}" for number in itertools.count(2))
            found = next(one for one in itertools.chain(candidates, numbered) if one not in self._names)
            self._names.add(found)
            return found

        return name


def plain(name: str) -> str:
    """A name as TensorFlow takes it, in which other characters are underscores."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip("_-") or "unnamed"


def _functional(model: Any) -> Any:
    """The functional model behind a Sequential one of Keras 3."""
    return getattr(model, "_functional", None) or model


def _is_model(layer: Any) -> bool:
    return hasattr(_functional(layer), "_nodes_by_depth")


def _nodes(model: Any) -> Iterator[Any]:
    """The calls of a model in an order in which each one's inputs come first."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (node for node in model._nodes_by_depth[depth] if not node.is_input)


def _parts(node: Any) -> tuple[Any, Any, dict[str, Any], list[Any]]:
    """The layer of a call, its arguments, and its outputs."""
    import tensorflow as tf

    if hasattr(node, "operation"):  # Keras 3
        layer, args, kwargs = node.operation, node.arguments.args, node.arguments.kwargs
    else:
        layer, args, kwargs = node.layer, node.call_args, node.call_kwargs
    kept = {name: value for name, value in kwargs.items() if name not in ("training", "mask")}
    return layer, args, kept, tf.nest.flatten(node.outputs)


def _mapped(argument: Any, known: dict[int, Value]) -> Any:
    """An argument of a call with the values of the new graph in the place of the loaded model's tensors."""
    if isinstance(argument, list | tuple):
        return [_mapped(one, known) for one in argument]
    return known.get(id(argument), argument)


def _leaves(argument: Any) -> Iterator[Any]:
    """What an argument of a call consists of, without lists, tuples and dictionaries."""
    if isinstance(argument, list | tuple | dict):
        for one in argument.values() if isinstance(argument, dict) else argument:
            yield from _leaves(one)
    else:
        yield argument


def _constants(layer: Any, args: Any, kwargs: dict[str, Any]) -> list[Any]:
    """What a layer is called with that is neither a tensor nor its default."""
    parameters = inspect.signature(layer.call).parameters
    defaults = {name: one.default for name, one in parameters.items()}
    given = [*zip(defaults, args, strict=False), *kwargs.items(), *(("", one) for one in args[len(defaults) :])]
    return [
        one
        for name, argument in given
        if argument is not defaults.get(name, inspect.Parameter.empty)
        for one in _leaves(argument)
        if one is not None and not isinstance(one, Value)
    ]


def _values(argument: Any) -> Iterator[Value]:
    yield from (one for one in _leaves(argument) if isinstance(one, Value))


def _head_of(model: Any) -> list[Any]:
    """The layers from the last pooling or flattening on; empty where the model does not end in such a chain."""
    functional = _functional(model)
    made = {id(tensor): node for node in _nodes(functional) for tensor in _parts(node)[3]}
    found: list[Any] = []
    node = made.get(id(functional.outputs[0]))
    while node is not None:
        layer, args, kwargs, _ = _parts(node)
        if _is_model(layer):
            return [*found, *_head_of(layer)]
        kind = type(layer).__name__
        if kind not in (*_HEAD, *_POOLS):
            return []
        found.append(layer)
        if kind in _POOLS:
            return found
        sources = [made[id(one)] for one in [*_tensors(args), *_tensors(kwargs)] if id(one) in made]
        node = sources[0] if len(sources) == 1 else None
    return []


def _tensors(argument: Any) -> Iterator[Any]:
    yield from (one for one in _leaves(argument) if hasattr(one, "shape") and not isinstance(one, np.ndarray))
