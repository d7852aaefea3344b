"""Transfer learning: the head is trained on a frozen, pretrained backbone; then, optionally, the top blocks too.

Source: Yosinski et al. 2014, arXiv:1411.1792; Keras guide "Transfer learning and fine-tuning".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pipelines.datasets.base import Split
from pipelines.models.channels import is_of_channels
from pipelines.system import checks
from pipelines.techniques.base import Build, Candidate, Context, EffectError, Technique
from pipelines.techniques.folding import is_linear
from pipelines.training import precision
from pipelines.training.batches import plain_batches, training_batches, validation_batches
from pipelines.training.trainer import Batches, Trainer

if TYPE_CHECKING:
    import tf_keras

    from pipelines.models.base import Model

    Layer: TypeAlias = tf_keras.layers.Layer

# The setting by which a layer disturbs a training.
_DISTURBANCES = {
    "AlphaDropout": "rate",
    "Attention": "dropout",
    "Dropout": "rate",
    "GaussianDropout": "rate",
    "GaussianNoise": "stddev",
    "SpatialDropout1D": "rate",
    "SpatialDropout2D": "rate",
}
# Keras's names of blocks: block5_conv1, conv5_block3_2_conv, block7a_expand_conv, block_16_project.
_BLOCK = re.compile(r"((?:conv\d+_)?block_?\d+[a-z]?)_")
FEATURES = "head_pool"


@dataclass(frozen=True, kw_only=True)
class Transfer(Technique):
    """Train the head on a frozen backbone.

    epochs: whole number of at least 1, or None for the training's own. learning_rate: above 0; a new head takes a
    higher one than fine-tuning. unfreeze_blocks: number of top blocks of the backbone that a second phase trains too,
    without their batch normalizations, as the guide advises; 0 for no second phase. unfreeze_epochs: as `epochs`, for
    the second phase. unfreeze_learning_rate: above 0, a tenth of the first or less.

    Expected: no change in the exported model's time or size; a small part of the baseline's training time, and usually
    less accuracy, part of which the second phase recovers. Without augmentation the backbone's features are computed
    once, which trains the same head in about the time of one epoch.
    """

    NAME = "transfer"
    EFFECT = None
    parent = None

    epochs: int | None
    learning_rate: float
    unfreeze_blocks: int
    unfreeze_epochs: int | None
    unfreeze_learning_rate: float

    def __post_init__(self) -> None:
        for field in ("epochs", "unfreeze_epochs"):
            if getattr(self, field) is not None:
                checks.integer(f"technique.{field}", getattr(self, field), minimum=1)
        for field in ("learning_rate", "unfreeze_learning_rate"):
            checks.number(f"technique.{field}", getattr(self, field), exclusive_minimum=0, example=1e-3)
        checks.integer("technique.unfreeze_blocks", self.unfreeze_blocks, minimum=0)
        # Equal settings are equal cells.
        if self.unfreeze_blocks == 0:
            object.__setattr__(self, "unfreeze_epochs", None)
            object.__setattr__(self, "unfreeze_learning_rate", 1e-5)

    def preflight(self, model: Model) -> None:
        """The model must have pretrained weights."""
        if not model.pretrained:
            published = ["imagenet"] if "imagenet" in getattr(model, "sources", ()) else []
            raise ValueError(
                f"transfer needs pretrained weights, got model.weights=null for {model.name}: set model.weights to "
                f"{' or '.join([*published, 'a checkpoint.keras of this model'])}, or set technique=baseline"
            )

    def check_network(self, model: Build) -> None:
        """Raise ValueError where the network has no head, or fewer blocks than are to be trained."""
        self._phases(model())

    def apply(self, candidate: Candidate, context: Context) -> Candidate:
        """Fit the head, then the top blocks. Raises EffectError if a frozen layer changes or a trained one does not."""
        model, trainer = candidate.model, context.trainer
        head, top = self._phases(model)
        with _Trained(model, head):
            if trainer.dataset.horizontal_flip or trainer.dataset.max_shift:
                trainer.fit(model, epochs=self.epochs, learning_rate=self.learning_rate)
            else:
                self._fit_on_features(model, trainer)
        if top:
            with _Trained(model, [*top, *head]):
                trainer.fit(
                    model,
                    epochs=self.unfreeze_epochs,
                    learning_rate=self.unfreeze_learning_rate,
                    rate_setting="technique.unfreeze_learning_rate",
                )
        return candidate

    def _phases(self, model: tf_keras.Model) -> tuple[list[Layer], list[Layer]]:
        """The layers of the head, and those of the backbone that the second phase trains too."""
        backbone = [layer for layer in model.layers if not layer.name.startswith("head_")]
        head = [layer for layer in model.layers if layer.name.startswith("head_")]
        if FEATURES not in [layer.name for layer in head] or not any(layer.weights for layer in head):
            raise ValueError(
                f"transfer needs dense layers behind a pooling or flattening layer, got {model.name}, which ends in "
                f"{model.layers[-1].name}: fine-tune it instead, with technique=baseline model.trained=false"
            )
        return head, _top_blocks(backbone, self.unfreeze_blocks)

    def _fit_on_features(self, model: tf_keras.Model, trainer: Trainer) -> None:
        """Fit a copy of the head on the backbone's features, computed once, and copy its weights to the model."""
        import tf_keras

        pooled = model.get_layer(FEATURES)
        backbone = tf_keras.Model(model.input, pooled.output)

        with trainer.clock(), trainer.convolutions():
            forward = _inference(backbone)

            def features(split: Split) -> Split:
                # Once: they may be larger than the images.
                computed = np.empty((len(split), *pooled.output.shape[1:]), np.float32)
                done = 0
                for images, _ in plain_batches(split, trainer.settings.batch_size):
                    computed[done : done + len(images)] = forward(images).numpy()
                    done += len(images)
                return Split(images=computed, labels=split.labels)

            training, validation = features(trainer.data.train), features(trainer.data.validation)
        inputs = tf_keras.Input(training.images.shape[1:])
        outputs, copies = {pooled.name: inputs}, {}
        graph = _graph(model)
        for layer, names in graph[[layer for layer, _ in graph].index(pooled) + 1 :]:
            copies[layer] = layer.__class__.from_config(layer.get_config())
            given = [outputs[name] for name in names]
            outputs[layer.name] = copies[layer](given[0] if len(given) == 1 else given)
            copies[layer].set_weights(layer.get_weights())
        x = outputs[graph[-1][0].name]
        # Of its own policy a network learns whether float16 needs its loss scaled.
        with precision.policy(precision.used(model)):
            top = tf_keras.Model(inputs, x)
        batches = Batches(
            training=training_batches(training, trainer.dataset, trainer.settings.batch_size, trainer.seed),
            validation=validation_batches(validation, trainer.settings.batch_size),
        )
        trainer.fit(top, epochs=self.epochs, learning_rate=self.learning_rate, batches=batches)
        for layer, copy in copies.items():
            layer.set_weights(copy.get_weights())


def _graph(model: tf_keras.Model) -> list[tuple[Layer, list[str]]]:
    """The layers of a flat graph, each with the names of those that it takes, in the order of their calls."""
    return [
        (model.get_layer(entry["name"]), [tensor[0] for node in entry["inbound_nodes"] for tensor in node])
        for entry in model.get_config()["layers"]
    ]


def _inference(backbone: tf_keras.Model) -> Callable[[Any], Any]:
    """The flat graph in inference mode: float32 images (b, h, w, 3) -> its output, up to rounding.

    A batch normalization that follows a convolution is folded into it, as the converter does, and the kernels are
    constants. That takes two thirds of the time of Keras's `predict`, without a second Keras graph.
    """
    import tensorflow as tf

    graph = _graph(backbone)
    folded, absorbed = _folded(graph)

    def forward(images: Any) -> Any:
        outputs: dict[str, Any] = {}
        for layer, names in graph:
            inputs = [outputs[name] for name in names]
            if not inputs:
                outputs[layer.name] = images
            elif layer.name in absorbed or type(layer).__name__ == "Dropout":
                (outputs[layer.name],) = inputs
            elif layer.name in folded:
                kernel, bias = folded[layer.name]
                outputs[layer.name] = tf.nn.bias_add(_convolved(layer, inputs[0], kernel), bias)
            else:
                # A layer of one's own may train by default.
                mode = {"training": False} if layer._call_spec.expects_training_arg else {}
                outputs[layer.name] = layer(inputs[0] if len(inputs) == 1 else inputs, **mode)
        return outputs[graph[-1][0].name]

    signature = tf.TensorSpec([None, *backbone.input_shape[1:]], tf.float32)
    return tf.function(forward, input_signature=[signature], autograph=False)  # type: ignore[no-any-return]


def _folded(graph: Sequence[tuple[Layer, list[str]]]) -> tuple[dict[str, tuple[Any, Any]], set[str]]:
    """Kernel and bias of each convolution with the batch normalization after it, and the normalizations' names.

    Layers in half precision are not folded: a folded kernel can exceed its range.
    """
    layers = {layer.name: layer for layer, _ in graph}
    uses = Counter(name for _, names in graph for name in names)
    folded, absorbed = {}, set()
    for layer, names in graph:
        if not is_of_channels(layer):
            continue
        before = layers[names[0]]
        kind = type(before).__name__
        if kind not in ("Conv2D", "DepthwiseConv2D") or uses[before.name] > 1:
            continue
        if not is_linear(before) or before.compute_dtype != "float32":
            continue
        gamma = layer.gamma.numpy() if layer.scale else 1.0
        beta = layer.beta.numpy() if layer.center else 0.0
        mean, variance = (one.numpy().astype(np.float64) for one in (layer.moving_mean, layer.moving_variance))
        scale = gamma / np.sqrt(variance + layer.epsilon)
        kernel, *bias = before.get_weights()
        kernel = kernel * (scale.reshape(kernel.shape[2:]) if kind == "DepthwiseConv2D" else scale)
        shift = beta + (sum(bias) - mean) * scale
        folded[before.name] = kernel.astype(np.float32), shift.astype(np.float32)
        absorbed.add(layer.name)
    return folded, absorbed


def _convolved(layer: Layer, images: Any, kernel: Any) -> Any:
    # The functions that Keras uses, which `quick_convolutions` replaces.
    from tensorflow.compat.v2 import constant, nn

    if type(layer).__name__ == "DepthwiseConv2D":
        return nn.depthwise_conv2d(
            images,
            constant(kernel),
            strides=(1, *layer.strides, 1),
            padding=layer.padding.upper(),
            data_format="NHWC",
            dilations=layer.dilation_rate,
        )
    return layer.convolution_op(images, constant(kernel))


class _Trained:
    """A context in which only `layers` are trainable; its exit checks that they, and no others, have changed.

    The frozen layers' dropout is off: stochastic depth of a frozen backbone would train the head on noise. Afterwards
    all layers are trainable, as in every checkpoint.
    """

    def __init__(self, model: tf_keras.Model, layers: Sequence[Layer]) -> None:
        self.model, self.layers = model, layers

    def __enter__(self) -> None:
        self.before = [layer.get_weights() for layer in self.model.layers]
        for layer in self.model.layers:
            layer.trainable = layer in self.layers
        frozen = (layer for layer in self.model.layers if layer not in self.layers)
        self.rates = {
            (layer, name): getattr(layer, name)
            for layer in frozen
            # A layer of one's own may have the name of one of Keras's.
            if isinstance(getattr(layer, name := _DISTURBANCES.get(type(layer).__name__, ""), None), int | float)
        }
        for layer, name in self.rates:
            setattr(layer, name, 0.0)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for layer in self.model.layers:
            layer.trainable = True
        for (layer, name), rate in self.rates.items():
            setattr(layer, name, rate)
        if kind is not None:
            return
        for layer, old in zip(self.model.layers, self.before, strict=True):
            moved = any(not np.array_equal(a, b) for a, b in zip(old, layer.get_weights(), strict=True))
            if moved and layer not in self.layers:
                raise EffectError(f"layer {layer.name} must not change while frozen, got other weights")
            if old and not moved and layer in self.layers:
                raise EffectError(f"layer {layer.name} must change in training, got equal weights")


def _top_blocks(backbone: Sequence[Layer], count: int) -> list[Layer]:
    """The layers with weights of the last `count` blocks and after them, without batch normalizations."""
    blocks: list[list[Any]] = []
    current = None
    for layer in backbone:
        found = _BLOCK.match(layer.name)
        if found and found[1] != current:
            current = found[1]
            blocks.append([])
        # Layers after the last block belong to it; layers before the first belong to none.
        if blocks:
            blocks[-1].append(layer)
    if count > len(blocks):
        raise ValueError(
            f"technique.unfreeze_blocks must be at most {len(blocks)}, the number of blocks of the backbone, got "
            f"{count}: set technique.unfreeze_blocks={len(blocks)}"
        )
    chosen = [layer for block in blocks[len(blocks) - count :] for layer in block]
    return [layer for layer in chosen if layer.weights and type(layer).__name__ != "BatchNormalization"]
