"""What quantizing a single layer does to the logits and to the accuracy. Runs the exported model, needs no network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.datasets.base import Split
from pipelines.litert.flatbuffer import named_operators, parse
from pipelines.quantization.answers import Judge, snr_db
from pipelines.quantization.answers import logits as logits_of
from pipelines.quantization.integers import quantized
from pipelines.quantization.layers import Layer, layers

# In Model Explorer's file, the name of the only graph.
GRAPH = "main"
WORST = 5
# Images that rank layers; more only sharpen the order.
IMAGES = 200


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """One layer alone in fewer bits. snr_db: of the logits. accuracy_change: a fraction, negative where it is lost."""

    layer: Layer
    snr_db: float
    accuracy_change: float


def of_8_bits(
    original: bytes, calibrated_model: bytes, split: Split, *, report: Callable[[str], None]
) -> list[Sensitivity]:
    """Each layer alone in 8 bits, its input and output too, and all else in float32.

    original: a float32 model. calibrated_model: the same with ranges. split: of which `IMAGES` images judge it.
    """
    judge, found = Judge(original, evenly(split)), []
    model = parse(original)
    tensors = model.subgraphs[0].tensors
    outputs = [tensors[one.outputs[0]].name.decode() for _, one in named_operators(model)]
    every = layers(original)
    for layer in every:
        others = [output for output in outputs if output != layer.output]
        found.append(_judged(layer, judge, quantized(calibrated_model, float_layers=others, float_ends=True)))
        if layer.place % 10 == 9:
            report(f"sensitivity of {layer.place + 1} of {len(every)} layers in 8 bits")
    return found


def evenly(split: Split) -> Split:
    """Evenly spaced images to rank layers by."""
    places = np.unique(np.linspace(0, len(split) - 1, IMAGES).round().astype(int))
    return part(split, places)


def part(split: Split, places: npt.NDArray[np.integer[Any]]) -> Split:
    """The images of these places."""
    return Split(images=np.take(split.images, places, axis=0), labels=split.labels[places])


def _judged(layer: Layer, judge: Judge, flatbuffer: bytes) -> Sensitivity:
    logits = logits_of(flatbuffer, judge.split.images)
    right = logits.argmax(axis=1) == judge.split.labels
    return Sensitivity(
        layer=layer,
        snr_db=snr_db(judge.expected, logits),
        accuracy_change=float(right.mean() - judge.right.mean()),
    )


def table(found: Iterable[Sensitivity]) -> dict[str, list[Any]]:
    """The columns of `sensitivity.json`, the most sensitive layer first."""
    rows = sorted(found, key=lambda one: one.snr_db)
    return {
        "layer": [one.layer.name for one in rows],
        "operator": [one.layer.operator for one in rows],
        "weights": [one.layer.weights for one in rows],
        "snr_db": [round(one.snr_db, 2) for one in rows],
        "accuracy_change": [round(one.accuracy_change, 4) for one in rows],
        "output": [one.layer.output for one in rows],
    }


def worst(found: Iterable[Sensitivity]) -> str:
    """The most sensitive layers in a sentence."""
    rows = sorted(found, key=lambda one: one.snr_db)[:WORST]
    named = ", ".join(f"{one.layer.name} ({one.snr_db:.0f} dB)" for one in rows)
    return f"8 bits hurt these layers most, by the logits' signal to noise: {named}; tables/sensitivity.json has all."


def model_explorer(columns: dict[str, list[Any]]) -> dict[str, Any]:
    """Model Explorer's data of nodes: a value for each output tensor, to lay over the graph.

    Source: github.com/google-ai-edge/model-explorer, wiki, "custom node data".
    """
    results = {output: {"value": value} for output, value in zip(columns["output"], columns["snr_db"], strict=True)}
    return {GRAPH: {"results": results}}
