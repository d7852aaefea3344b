"""Groups of channels that must be removed together, and networks with fewer channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.models.pretrained import rebuilt

if TYPE_CHECKING:
    import tf_keras

    Indices = npt.NDArray[np.intp]

# Layers that make new channels, and the setting of their number.
_PRODUCERS = {"Conv2D": "filters", "Dense": "units"}
# Layers that compute channel i from channel i of each input only.
_FOLLOWERS = {
    "Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "DepthwiseConv2D", "Dropout", "ELU",
    "GaussianDropout", "GaussianNoise", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling1D",
    "GlobalMaxPooling2D", "LeakyReLU", "MaxPooling2D",
    "Maximum", "Minimum", "Multiply", "ReLU", "Rescaling", "Reshape", "SpatialDropout2D", "Subtract", "UpSampling2D",
    "ZeroPadding2D",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Groups of channels that layers add or multiply elementwise, so that they can only be removed together.

    given, taken: the group of a layer's output and input channels, by the layer's name; a group is named after one of
    its layers. producers: the Conv2D and Dense layers that make a group's channels, by group, without groups that must
    stay whole: the pixels, the logits, and the inputs and outputs of layers of other kinds.
    """

    given: Mapping[str, str]
    taken: Mapping[str, str]
    producers: Mapping[str, tuple[str, ...]]


def groups(model: tf_keras.Model) -> Groups:
    """The groups of a flat graph, channels last.

    Raises ValueError that names the layer if the graph calls it twice or has other operations than layers.
    """
    from scipy.cluster.hierarchy import DisjointSet

    config = model.get_config()
    entries = {entry["name"]: entry for entry in config["layers"]}
    sources = {name: _sources(entry) for name, entry in entries.items()}
    count = {layer.name: layer.get_output_at(0).shape[-1] for layer in model.layers}
    together = DisjointSet(entries)
    whole = {name for name, *_ in config["output_layers"]}
    for name, entry in entries.items():
        if _produces(entry):
            continue
        touched = (name, *sources[name])
        # Equal numbers exclude broadcasting over channels, depth multipliers and reshapes that mix channels.
        follows = entry["class_name"] in _FOLLOWERS and not _mixes(entry)
        if not follows or len({count[one] for one in touched}) > 1:
            whole.update(touched)
            continue
        for source in sources[name]:
            together.merge(name, source)

    given = {name: together[name] for name in entries}
    kept_whole = {given[name] for name in whole}
    producers: dict[str, tuple[str, ...]] = {}
    for name, entry in entries.items():
        if _produces(entry) and given[name] not in kept_whole:
            producers[given[name]] = (*producers.get(given[name], ()), name)
    taken = {name: given[names[0]] for name, names in sources.items() if names}
    return Groups(given=given, taken=taken, producers=producers)


def narrowed(model: tf_keras.Model, kept: Mapping[str, Indices]) -> tf_keras.Model:
    """A copy of the model with only the channels of `kept`: ordered indices by group.

    Groups that are not in `kept` stay whole. Layers keep their names and the weights of their remaining channels.
    """
    found = groups(model)

    def narrow(entry: dict[str, Any]) -> dict[str, Any]:
        # It would build the layer for its old input shape.
        entry.pop("build_config", None)
        chosen, settings = kept.get(found.given[entry["name"]]), entry["config"]
        if chosen is not None and entry["class_name"] == "Reshape":
            settings["target_shape"] = [*settings["target_shape"][:-1], len(chosen)]
        elif chosen is not None and _produces(entry):
            settings[_PRODUCERS[entry["class_name"]]] = len(chosen)
        return entry

    result = rebuilt(model, narrow)
    for layer in model.layers:
        if layer.weights:
            every = slice(None)
            taken, given = (kept.get(group[layer.name], every) for group in (found.taken, found.given))
            result.get_layer(layer.name).set_weights(_remaining(layer, taken, given))
    return result


def is_of_channels(layer: tf_keras.layers.Layer) -> bool:
    """Whether a layer is a batch normalization of the last axis; that of another one is of rows or columns."""
    return type(layer).__name__ == "BatchNormalization" and list(layer.axis) == [len(layer.input_shape) - 1]


def _remaining(layer: tf_keras.layers.Layer, taken: Any, given: Any) -> list[npt.NDArray[Any]]:
    """The weights of a layer's remaining channels."""
    weights: list[npt.NDArray[Any]] = layer.get_weights()
    match type(layer).__name__:
        case "Conv2D" | "Dense":
            kernel, *bias = weights
            return [kernel[..., taken, :][..., given], *(one[given] for one in bias)]
        case "DepthwiseConv2D":
            kernel, *bias = weights
            return [kernel[:, :, given], *(one[given] for one in bias)]
        case "BatchNormalization" if is_of_channels(layer):
            return [one[given] for one in weights]
    return weights


def _produces(entry: Mapping[str, Any]) -> bool:
    return entry["class_name"] in _PRODUCERS and entry["config"].get("groups", 1) == 1 and not _mixes(entry)


def _mixes(entry: Mapping[str, Any]) -> bool:
    """Whether a channel of the output depends on others, or on its place among them."""
    config = entry["config"]
    by_place = any(isinstance(config.get(name), list | tuple | dict) for name in ("scale", "offset"))
    return config.get("activation") == "softmax" or (entry["class_name"] == "Rescaling" and by_place)


def _sources(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the layers whose channels a layer takes."""
    nodes = entry["inbound_nodes"]
    if len(nodes) > 1 or not all(isinstance(tensor, list) for node in nodes for tensor in node):
        raise ValueError(
            f"a network for filter pruning must use each layer once, got {entry['name']} of class "
            f"{entry['class_name']}, which is used otherwise: build the network from layers of Keras, each used once"
        )
    return tuple(tensor[0] for node in nodes for tensor in node)
