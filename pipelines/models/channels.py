"""Which channels of a network belong together, and the network without some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import tf_keras

    Layer = Any
    Kept = Mapping[int, npt.NDArray[np.intp]]

# What gives as many channels as it takes, each from its own.
_KEEPING = {
    "BatchNormalization", "ReLU", "Activation", "Dropout", "DepthwiseConv2D", "MaxPooling2D", "AveragePooling2D",
    "GlobalAveragePooling2D", "ZeroPadding2D", "Rescaling", "Normalization", "Resizing", "Add", "Multiply", "Reshape",
}  # fmt: skip
_PRODUCING = ("Conv2D", "Dense")


@dataclass
class ChannelGroups:
    """The channels of every layer's output, in groups that can only lose a channel together.

    Convolutions and dense layers begin a group, additions and products make one of several, all other layers pass
    theirs on. The pixels' group and the logits' are not `prunable`.
    """

    model: tf_keras.Model
    group_of: dict[str, int] = field(default_factory=dict)
    input_group: dict[str, int] = field(default_factory=dict)
    prunable: set[int] = field(default_factory=set)
    _joined: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Walk the graph. Raises ValueError that names a layer whose channels cannot be followed."""
        for layer in self.model.layers:
            kind = type(layer).__name__
            sources = [self.group_of[source.name] for source in _sources(layer)]
            if kind in _PRODUCING and getattr(layer, "groups", 1) == 1:
                self.input_group[layer.name] = sources[0]
                self.group_of[layer.name] = self._new()
            elif kind == "InputLayer":
                self.group_of[layer.name] = self._new()
            elif kind in _KEEPING and getattr(layer, "depth_multiplier", 1) == 1 and _keeps_channels(layer):
                for other in sources[1:]:
                    self._join(sources[0], other)
                self.group_of[layer.name] = sources[0]
            else:
                raise ValueError(f"the channels of layer {layer.name}, a {kind}, cannot be followed")
        self.group_of = {name: self._root(group) for name, group in self.group_of.items()}
        self.input_group = {name: self._root(group) for name, group in self.input_group.items()}
        ends = {self.group_of[self.model.layers[0].name], self.group_of[self.model.output_names[0]]}
        self.prunable = {self.group_of[name] for name in self.input_group} - ends

    def producers(self, group: int) -> list[Layer]:
        """The convolutions and dense layers that give the group's channels."""
        return [self.model.get_layer(name) for name in self.input_group if self.group_of[name] == group]

    def without(self, kept: Kept) -> tf_keras.Model:
        """A copy of the network that has, of each group in `kept`, the channels with these numbers only.

        Layers keep their names and what is left of their weights.
        """
        config = self.model.get_config()
        for entry in config["layers"]:
            group = self.group_of[entry["name"]]
            if group not in kept:
                continue
            for size in ("filters", "units"):
                if size in entry["config"]:
                    entry["config"][size] = len(kept[group])
            if "target_shape" in entry["config"]:
                entry["config"]["target_shape"] = (*entry["config"]["target_shape"][:-1], len(kept[group]))
        smaller = type(self.model).from_config(config)
        for layer in smaller.layers:
            layer.set_weights(self._left_of(self.model.get_layer(layer.name), kept))
        return smaller

    def _left_of(self, layer: Layer, kept: Kept) -> list[npt.NDArray[Any]]:
        own = kept.get(self.group_of[layer.name])
        taken = kept.get(self.input_group[layer.name]) if layer.name in self.input_group else None

        def part(weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
            # A depthwise kernel is (h, w, channels, 1); a variable without shape counts images.
            depthwise = type(layer).__name__ == "DepthwiseConv2D" and weight.ndim == 4
            if own is not None and weight.ndim:
                weight = np.take(weight, own, axis=-2 if depthwise else -1)
            if taken is not None and weight.ndim > 1:
                weight = np.take(weight, taken, axis=-2)
            return weight

        return [part(weight) for weight in layer.get_weights()]

    def _new(self) -> int:
        self._joined.append(len(self._joined))
        return self._joined[-1]

    def _root(self, group: int) -> int:
        while self._joined[group] != group:
            group = self._joined[group]
        return group

    def _join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._joined[second] = first


def _sources(layer: Layer) -> list[Layer]:
    (node,) = layer.inbound_nodes
    layers = node.inbound_layers
    return layers if isinstance(layers, list) else [layers]


def _keeps_channels(layer: Layer) -> bool:
    # A reshape may only put ones before the channels, as squeeze and excitation does.
    return type(layer).__name__ != "Reshape" or layer.output_shape[-1] == layer.input_shape[-1]
