"""The end of a network: logits in the place of probabilities, one for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.models.checkpoint import LOGITS
from pipelines.models.keras_layers import UnsupportedLayerError

if TYPE_CHECKING:
    import tf_keras

# Layers after which answer i still comes from channel i, for feature maps of one pixel where they flatten.
_KEEP_ORDER = ("Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Reshape")
_RESHAPE = ("Flatten", "Reshape")
# Layers that compute answer i from answer i of several branches, and of one.
_MERGE = ("Add", "Average", "Maximum", "Minimum", "Multiply")
_OF_ONE = (*_KEEP_ORDER, "Dropout", "Rescaling")


def with_logits(image: Any, output: Any, classes: int, name: str) -> tf_keras.Model:
    """The graph from `image` to `output` without a final softmax or sigmoid.

    One answer becomes two logits whose softmax is the sigmoid's probability. Raises ValueError where the number of
    answers is another than `classes`, or where the output is no row of answers.
    """
    import tf_keras

    output = _without_probabilities(output)
    layer = output.node.layer
    if len(output.shape) != 2:
        raise UnsupportedLayerError(
            f"a model must give one row of answers for an image, got the shape {tuple(output.shape[1:])} of layer "
            f"{layer.name}: end the model in GlobalAveragePooling2D or Flatten, and Dense"
        )
    answers = output.shape[-1]
    check_number(answers, classes)
    if type(layer).__name__ == "Dense" and layer.activation.__name__ == "linear":
        weights = layer.get_weights()
        if answers == 1:
            # Halves, so that both logits have weights.
            weights = [np.concatenate([-one / 2, one / 2], axis=-1) for one in weights]
        penalties = ("kernel_regularizer", "kernel_constraint", "bias_regularizer", "bias_constraint")
        kept = {name: getattr(layer, name) for name in penalties}
        logits = tf_keras.layers.Dense(
            classes, use_bias=layer.use_bias, dtype="float32", kernel_initializer="zeros", name=LOGITS, **kept
        )
        output = logits(layer.input)
        logits.set_weights(weights)
    elif answers == 1:
        raise UnsupportedLayerError(
            f"a model with one answer must end in a Dense layer, with a sigmoid or nothing after it, got {layer.name}: "
            "add one"
        )
    elif output.dtype != "float32":
        # In half precision the loss overflows.
        output = tf_keras.layers.Activation("linear", dtype="float32", name=LOGITS)(output)
    return tf_keras.Model(image, output, name=name)


def _without_probabilities(output: Any) -> Any:
    """The output without what leaves the most probable class as it is, also before layers that only reshape it.

    Raises UnsupportedLayerError where the answers are computed from probabilities, as those of an ensemble may be.
    """
    output, is_logits = _stripped(output)
    reshaping = []
    inner = output
    while type(layer := inner.node.layer).__name__ in _RESHAPE:
        reshaping.append(layer)
        inner = layer.input
    logits, were_probabilities = _stripped(inner)
    if were_probabilities:
        output, is_logits = logits, True
        for layer in reversed(reshaping):
            output = layer.__class__.from_config(layer.get_config())(output)
    if not is_logits and _are_probabilities(output):
        raise UnsupportedLayerError(
            f"a model must give logits, got {output.node.layer.name}, which computes with probabilities: let it "
            "compute with what is before the softmax or sigmoid"
        )
    return output


def _stripped(output: Any) -> tuple[Any, bool]:
    """The output without last layers that leave the most probable class, and whether probabilities were made there."""
    made = False
    while _takes_no_part(layer := output.node.layer):
        made = made or _makes_probabilities(layer)
        output = layer.input
    return output, made


def _are_probabilities(output: Any) -> bool:
    """Whether an output is made of probabilities alone. A gate, a sigmoid that is multiplied by others, is none."""
    layer = output.node.layer
    if type(layer).__name__ in _MERGE:
        return all(map(_are_probabilities, layer.input))
    if type(layer).__name__ in _OF_ONE:
        return _are_probabilities(layer.input)
    return _makes_probabilities(layer)


def _makes_probabilities(layer: Any) -> bool:
    kind = type(layer).__name__
    return kind == "Softmax" or (kind == "Activation" and layer.activation.__name__ in ("softmax", "sigmoid"))


def check_number(answers: int, classes: int, *, where: str = "") -> None:
    """Raise ValueError where a model has not as many answers as there are classes. where: of the file, in words."""
    # One answer, a sigmoid, tells two classes apart.
    if answers != classes and (answers, classes) != (1, 2):
        raise ValueError(
            f"the number of answers must be that of the dataset's classes, got {answers}{where} and {classes} classes: "
            "choose the dataset that the model was trained for"
        )


def reorder(model: tf_keras.Model, order: Sequence[int]) -> None:
    """Exchange the logits: number i becomes the present number order[i]."""
    if list(order) == list(range(len(order))):
        return
    last = model.layers[-1]
    while type(last).__name__ in _KEEP_ORDER or _takes_no_part(last):
        last = last.input.node.layer
    if type(last).__name__ not in ("Dense", "Conv2D") or last.output.shape[-1] != len(order):
        raise UnsupportedLayerError(
            f"a model whose classes are put into another order must end in a Dense layer, got {last.name}: leave "
            "model.class_names out and name the dataset's classes in the model's order"
        )
    last.set_weights([one[..., list(order)] for one in last.get_weights()])


def _takes_no_part(layer: Any) -> bool:
    """Whether a last layer leaves the most probable class as it is."""
    kind = type(layer).__name__
    is_nothing = kind == "Dropout" or (kind == "Activation" and layer.activation.__name__ == "linear")
    return is_nothing or _makes_probabilities(layer)
