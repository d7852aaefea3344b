"""Effects of techniques on single kernels, verified in the exported model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.models import complexity
from pipelines.system.words import some
from pipelines.techniques.base import EffectError

if TYPE_CHECKING:
    import tf_keras

    Kernels = Mapping[str, npt.NDArray[Any]]
MAX_NAMES = 12


def chosen_kernels(model: tf_keras.Model, skip: str | None = None) -> Kernels:
    """Kernels of all Conv2D and Dense layers whose names `skip` does not match, by layer.

    Depthwise kernels are left out, as in tfmot: they are few and sensitive.
    """
    return {name: model.get_layer(name).kernel.numpy() for name in _names(model) if not (skip and re.match(skip, name))}


def _names(model: tf_keras.Model) -> list[str]:
    return [layer.name for layer in model.layers if type(layer).__name__ in ("Conv2D", "Dense")]


def report_left_out(skip: str | None, model: tf_keras.Model, report: Callable[[str], None]) -> None:
    """Report kernels inside layers of one's own, and a `technique.skip` that leaves out no layer, perhaps misspelt."""
    own = [layer.name for layer in model.layers if complexity.hides_kernels(layer)]
    if own:
        report(f"the weights inside layers of your own are only trained: {some(own, MAX_NAMES)}")
    names = _names(model)
    if skip and not any(re.match(skip, name) for name in names):
        report(f"technique.skip leaves out no layer: no name begins with {skip!r} ({some(names, MAX_NAMES)})")


def check_kernels(
    exported_model: Path, promised: Kernels, holds: Callable[[npt.NDArray[Any]], bool], technique: str, what: str
) -> None:
    """Raise EffectError unless the exported model has an affected kernel for each promised one.

    holds: whether a kernel as the exported model stores it, (filters, the rest), shows the effect. what: the effect, as
    a phrase. Kernels are matched by shape, since the converter does not keep the layers' names.
    """
    from pipelines.litert.kernels import kernels

    forms = {layer: _form(np.moveaxis(kernel, -1, 0)) for layer, kernel in promised.items()}
    wanted = Counter(forms.values())
    found: Counter[tuple[int, int]] = Counter()
    for kernel in kernels(exported_model):
        if kernel.operator != "DEPTHWISE_CONV_2D" and _form(kernel.values) in wanted and holds(kernel.values):
            found[_form(kernel.values)] += 1
    for form, count in wanted.items():
        if found[form] < count:
            layers = [layer for layer, own in forms.items() if own == form]
            raise EffectError(
                f"{technique} promised {what} in {', '.join(layers)}, of {form[0]} filters with {form[1]} weights "
                f"each, and the exported model has {found[form]} of these {count}: leave them out by the technique's "
                "setting skip"
            )


def _form(kernel: npt.NDArray[Any]) -> tuple[int, int]:
    return kernel.shape[0], kernel.size // kernel.shape[0]
